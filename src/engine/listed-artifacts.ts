/** What a run has made, for its row of a list: exactly the fields of the public shapes, the oldest first. */
import { sql } from 'kysely'
import type { ListedArtifact } from '../contract/index.ts'

/** Of the table or alias `runs`. */
export const listedArtifacts = sql<ListedArtifact[]>`(
  select coalesce(jsonb_agg(jsonb_build_object(
    'artifact_type', a.artifact_type,
    'created_at', to_char(a.created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'data', case a.artifact_type
      when 'PLAN' then jsonb_strip_nulls(jsonb_build_object('document_uid', a.data->'document_uid',
        'artifact_uid', a.artifact_uid, 'notebook_uid', a.data->'document_uid', 'title', a.data->'title',
        'version', a.data->'version'))
      when 'SCREENSHOT' then jsonb_strip_nulls(jsonb_build_object('artifact_uid', a.artifact_uid,
        'mime_type', a.data->'mime_type', 'description', a.data->'description'))
      when 'FILE' then a.data || jsonb_build_object('artifact_uid', a.artifact_uid)
      else a.data
    end) order by a.created_at, a.artifact_uid), '[]')
  from artifacts a where a.run_id = runs.run_id)`
