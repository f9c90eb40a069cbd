import { Link } from '@tanstack/react-router'
import { CornerLeftUp, Timer } from 'lucide-react'
import type { Run } from '../../contract/index.ts'
import { harnessOf } from '../../contract/index.ts'
import { isTimed } from '../time.ts'
import { harnessWord, sourceWord } from '../words.ts'
import { When, Worked } from './clock.tsx'
import { RunChildren } from './run-children.tsx'
import { RunStatus } from './status.tsx'

/** `nested`: under its parent's row; elsewhere a child names its parent. */
export function RunRow({ run, nested = false }: { run: Run; nested?: boolean }) {
  return (
    <li>
      <Link
        to="/runs/$runId"
        params={{ runId: run.run_id }}
        data-run={run.run_id}
        className="-mx-3 grid grid-cols-[1fr_auto] items-center gap-x-4 gap-y-0.5 rounded-lg px-3 py-2.5 hover:bg-raised sm:grid-cols-[7.5rem_minmax(0,1fr)_6.5rem_6.5rem]"
      >
        <RunStatus run={run} />
        <span className="order-last col-span-2 min-w-0 sm:order-none sm:[grid-column:2] sm:row-start-1">
          <span className="block truncate font-medium" title={run.title}>
            {run.title}
          </span>
          <span className="flex flex-wrap gap-x-1.5 text-sm text-soft">
            <span>{run.agent_config ? harnessWord(harnessOf(run.agent_config)) : 'Unknown harness'}</span>
            {!nested && (
              <>
                <Dot />
                <span>{sourceWord(run.source)}</span>
              </>
            )}
            {run.worker_host && (
              <>
                <Dot />
                <span className="max-w-48 truncate" title={`Worker ${run.worker_host}`}>
                  {run.worker_host}
                </span>
              </>
            )}
            {!nested && run.parent_name !== undefined && (
              <>
                <Dot />
                <span className="inline-flex min-w-0 items-center gap-1">
                  <CornerLeftUp aria-hidden className="size-3.5 shrink-0" />
                  <span className="max-w-56 truncate" title={`Child of ${run.parent_name}`}>
                    <span className="sr-only">child of </span>
                    {run.parent_name}
                  </span>
                </span>
              </>
            )}
          </span>
        </span>
        <span className="flex items-center gap-3 text-sm text-soft sm:contents">
          {isTimed(run) && (
            <span className="inline-flex items-center justify-end gap-1 sm:col-start-3 sm:row-start-1">
              <Timer aria-hidden className="size-3.5 shrink-0" />
              <span className="sr-only">took </span>
              <Worked run={run} />
            </span>
          )}
          <span className="text-right sm:col-start-4 sm:row-start-1">
            <span className="sr-only">created </span>
            <When at={run.created_at} />
          </span>
        </span>
      </Link>
      {run.children.length > 0 && <RunChildren run={run} />}
    </li>
  )
}

const Dot = () => <span aria-hidden>·</span>
