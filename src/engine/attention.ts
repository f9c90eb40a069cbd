/** What a runner must attend to beside its harness, as conditions on the row of its run. */
import { type RawBuilder, sql } from 'kysely'
import { CHILD_EVENTS } from '../contract/index.ts'

/** What a parent is told of a child. That it is in progress only says that what was before no longer holds. */
const NEWS = CHILD_EVENTS.filter((type) => type !== 'run_in_progress')
const news = sql.join(NEWS.map((type) => sql.lit(type)))

/**
 * Children have changed after this number of the log. Asked child by child: of all that was logged since, most is of
 * others.
 */
export const hasNews = (parent_run_id: RawBuilder<unknown>, since: RawBuilder<unknown>) => sql<boolean>`
  exists (select from runs child cross join lateral (
      select from events e where e.run_id = child.run_id and e.sequence > ${since} and e.event_type in (${news}) limit 1
    ) as change where child.parent_run_id = ${parent_run_id})`

/**
 * Its agent has mail: a message, or, while it waits, news of a child or the end of its time. While a plan is before a
 * person, or its tree is stopped, it is told nothing else.
 */
export const hasMail = (now: Date) => sql<boolean>`runs.open_plan is null and not runs.halted and (runs.undelivered > 0
  or (runs.waiting_until is not null and (runs.waiting_until <= ${now}
    or ${hasNews(sql`runs.run_id`, sql`coalesce(runs.last_event_sequence, 0)`)})))`

export const hasUrgentMail = sql<boolean>`exists (select from messages m where m.recipient_run_id = runs.run_id
  and m.delivered_at is null and m.urgent)`

/** It was given files that its execution has not taken. */
export const hasNewFiles = sql<boolean>`(select count(*) from uploads f where f.run_id = runs.run_id
  and f.purpose = 'attachment' and f.confirmed_at is not null) > executions.attachments`

/** Children wait to be started beside it. */
export const hasChildrenBeside = sql<boolean>`exists (select from runs child where child.parent_run_id = runs.run_id
  and child.placement = 'parent' and child.state = 'QUEUED' and not child.halted)`
