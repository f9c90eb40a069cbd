/** Schedules as a person reads them. */
import type { Schedule } from '../contract/index.ts'
import { type Context, clientOf, type Given } from './context.ts'
import { pickNamed } from './named.ts'
import { paint } from './output.ts'
import { ago, alignColumns, duration, oneLine } from './text.ts'

/** By id or name. */
export async function findSchedule(context: Context, { args: [asked = ''] }: Given): Promise<Schedule> {
  const { schedules } = await clientOf(context).schedules.list({ signal: context.signal })
  const named = schedules.map((schedule) => ({ uid: schedule.id, schedule }))
  return pickNamed('schedule', named, asked, ({ schedule }) => schedule.name).schedule
}

/** `At 02:30, Monday through Friday`; the five fields themselves where they cannot be said. */
export async function inWords(cron: string): Promise<string> {
  const { toString: say } = await import('cronstrue')
  try {
    return say(cron, { use24HourTimeFormat: true })
  } catch {
    return cron
  }
}

/** As the clock of the zone shows it, such as `2026-03-29 03:00 Europe/Berlin`. */
export const onClock = (iso: string, time_zone: string): string =>
  `${new Intl.DateTimeFormat('sv-SE', { timeZone: time_zone, dateStyle: 'short', timeStyle: 'short' }).format(new Date(iso))} ${time_zone}`

/** `in 3h`, or that it is due. */
export function ahead(iso: string, now: number): string {
  const ms = Date.parse(iso) - now
  return ms <= 0 ? 'now' : `in ${duration(ms)}`
}

export async function scheduleTable(schedules: Schedule[], now: number, width: number | undefined): Promise<string[]> {
  if (schedules.length === 0) return []
  const rows = await Promise.all(
    schedules.map(async ({ id, name, cron_schedule, time_zone, enabled, history, scope, last_spawn_error }) => [
      id,
      oneLine(name),
      `${await inWords(cron_schedule)}${time_zone === 'UTC' ? '' : ` (${time_zone})`}`,
      enabled ? 'no' : paint.yellow('yes'),
      history.last_ran === null ? 'never' : `${ago(history.last_ran, now)} ${history.last_run_id ?? ''}`,
      history.next_run === null ? '' : ahead(history.next_run, now),
      scope.type === 'Team' ? 'team' : 'personal',
      troubleOf({ enabled, history, last_spawn_error }),
    ]),
  )
  const head = ['ID', 'NAME', 'SCHEDULE', 'PAUSED', 'LAST RAN', 'NEXT RUN', 'SCOPE', ''].map(paint.dim)
  return alignColumns([head, ...rows], width)
}

/** Enabled and without a next time: nobody is left in whose name it could make runs. */
function troubleOf({ enabled, history, last_spawn_error }: Pick<Schedule, 'enabled' | 'history' | 'last_spawn_error'>) {
  if (last_spawn_error === null) return ''
  const stands_still = enabled && history.next_run === null
  return paint.red(stands_still ? 'who made it has left; take it over' : 'the last run could not be made')
}

const OVERLAPS = {
  skip: 'skips its time',
  queue: 'waits for its end, one time at most',
  cancel_previous: 'cancels it and waits for its end',
}

export async function scheduleLines(schedule: Schedule, now: number): Promise<string[]> {
  const { cron_schedule, time_zone, history, agent_config: config, catch_up_window_minutes: minutes } = schedule
  const time = (iso: string) => onClock(iso, time_zone)
  const rows: [string, string | undefined | null][] = [
    ['Schedule', schedule.name],
    ['Id', schedule.id],
    ['Times', `${await inWords(cron_schedule)} (${cron_schedule}, ${time_zone})`],
    ['Next run', history.next_run && `${time(history.next_run)}, ${ahead(history.next_run, now)}`],
    ['', schedule.enabled ? '' : paint.yellow('It is paused.')],
    ['Last ran', history.last_ran && `${time(history.last_ran)}, run ${history.last_run_id ?? ''}`],
    ['Error', schedule.last_spawn_error && paint.red(oneLine(schedule.last_spawn_error))],
    ['Prompt', schedule.prompt],
    ['Mode', schedule.mode === 'normal' ? '' : schedule.mode],
    ['Agent', schedule.agent_uid],
    ['Harness', config.harness?.type],
    ['Model', config.model_id ?? config.harness?.model_id],
    ['Environment', schedule.environment?.name ?? config.environment_id],
    ['Worker', config.worker_host],
    ['Skills', config.skills?.join(' ')],
    ['MCP servers', Object.keys(config.mcp_servers ?? {}).join(' ')],
    ['While one runs', OVERLAPS[schedule.overlap_policy]],
    ['Missed times', `${schedule.catch_up === 'all' ? 'all' : 'the latest'} of the last ${minutes} minutes`],
    ['Scope', schedule.scope.type === 'Team' ? 'team' : 'personal'],
    ['Made by', schedule.created_by.display_name ?? schedule.created_by.uid],
    ['Changed', `${schedule.updated_at} by ${schedule.updated_by.display_name ?? schedule.updated_by.uid}`],
  ]
  return rows.flatMap(([name, value]) => (value ? [`${paint.dim(name.padEnd(14))} ${oneLine(value)}`] : []))
}
