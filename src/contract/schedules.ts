/**
 * Schedules: runs that are made at planned times. Paths and fields are those of the public Oz v1 API; ours are marked.
 * What a time came to is a firing.
 */
import { z } from 'zod'
import { AgentConfig, NoNul } from './config.ts'
import { CRON_CHARACTERS_MAX, cronFault } from './cron.ts'
import { EnvironmentConfig } from './environments.ts'
import { RunMode } from './modes.ts'
import { queryNumber, route } from './route.ts'
import { RunState, Timestamp } from './run-states.ts'
import { CreatedRun, Metadata, PageInfo, Prompt, UserProfile } from './runs.ts'

/** What happens at a planned time when a run of the schedule is still going on. */
export const OVERLAP_POLICIES = ['skip', 'queue', 'cancel_previous'] as const
export const OverlapPolicy = z.enum(OVERLAP_POLICIES)
export type OverlapPolicy = z.infer<typeof OverlapPolicy>

/** Which of several times that were missed within the window still fire. */
export const CATCH_UPS = ['latest', 'all'] as const

export const CATCH_UP_WINDOW_MINUTES = 10
export const CATCH_UP_WINDOW_MINUTES_MAX = 31 * 24 * 60
export const NEXT_TIMES_MAX = 100

export const CronSchedule = z
  .string()
  .max(CRON_CHARACTERS_MAX)
  .superRefine((text, wrong) => {
    const message = cronFault(text)
    if (message !== null) wrong.addIssue({ code: 'custom', message })
  })
  .transform((text) => text.trim().replace(/\s+/g, ' '))

export const TimeZone = z
  .string()
  .max(64)
  .refine(isTimeZone, 'A time zone is an IANA name, such as Europe/Berlin or UTC.')

/** Names alone: an offset such as +02:00 knows nothing of summer time. */
function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z]/.test(name)) return false
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

const asked = {
  name: NoNul.trim().min(1, 'A name must not be empty.').max(256),
  cron_schedule: CronSchedule,
  /** May be absent where a skill is named. */
  prompt: Prompt.optional(),
  agent_config: AgentConfig.optional(),
  /** Uid or, ours, name of the agent identity that works on its runs. */
  agent_uid: z.string().max(128).nullish(),
  metadata: Metadata.optional(),
  mode: RunMode.optional(),
  /** Ours: whose clock tells the times; UTC where absent. */
  time_zone: TimeZone.optional(),
  /** Ours: `skip` where absent. */
  overlap_policy: OverlapPolicy.optional(),
  /** Ours: a time that was missed, because no server was at work, still fires for so long. */
  catch_up_window_minutes: z.int().min(0).max(CATCH_UP_WINDOW_MINUTES_MAX).optional(),
  /** Ours: `latest` where absent. */
  catch_up: z.enum(CATCH_UPS).optional(),
}

export const CreateSchedule = z.object({
  ...asked,
  enabled: z.boolean().default(true),
  /** False: the caller's alone. */
  team: z.boolean().optional(),
})
export type CreateSchedule = z.infer<typeof CreateSchedule>

/** Whole: what is left out is empty. Of ours, what is left out stays as it is, since clients made for Oz do not send it. */
export const ReplaceSchedule = z.object({ ...asked, enabled: z.boolean() })
export type ReplaceSchedule = z.infer<typeof ReplaceSchedule>

export const Schedule = z.object({
  id: z.uuid(),
  name: z.string(),
  cron_schedule: z.string(),
  enabled: z.boolean(),
  prompt: z.string(),
  created_at: Timestamp,
  updated_at: Timestamp,
  /** Why the last run that it should have made could not be made; null once one could. */
  last_spawn_error: z.string().nullable(),
  agent_config: AgentConfig,
  agent_uid: z.string().optional(),
  /** The one that `agent_config.environment_id` names. */
  environment: EnvironmentConfig.optional(),
  created_by: UserProfile,
  updated_by: UserProfile,
  history: z.object({
    last_ran: Timestamp.nullable(),
    /** Null: it is paused, or who made it has left the team. */
    next_run: Timestamp.nullable(),
    /** Ours. */
    last_run_id: z.string().nullable(),
  }),
  scope: z.object({ type: z.enum(['User', 'Team']), uid: z.string().optional() }),
  metadata: z.record(z.string(), z.string()),
  /** The rest is ours. */
  mode: RunMode,
  time_zone: z.string(),
  overlap_policy: OverlapPolicy,
  catch_up_window_minutes: z.int(),
  catch_up: z.enum(CATCH_UPS),
})
export type Schedule = z.infer<typeof Schedule>

/** What a planned time came to. */
export const Firing = z.object({
  firing_id: z.uuid(),
  /** `time`: its cron said so; `run_now`: a person did. */
  cause: z.enum(['time', 'run_now']),
  due_at: Timestamp,
  /** fired: it has a run; waiting: for a run to end; skipped: it will have none; failed: its run could not be made. */
  state: z.enum(['fired', 'waiting', 'skipped', 'failed']),
  /** Why it waits, or has no run. */
  reason: z.string().nullable(),
  run_id: z.string().nullable(),
  run_state: RunState.nullable(),
  /** When its run was made, or it was given up. */
  settled_at: Timestamp.nullable(),
})
export type Firing = z.infer<typeof Firing>

export const ListFirings = z.object({
  limit: queryNumber(1, 500).default(20),
  cursor: z.string().max(2048).optional(),
})
export type ListFirings = z.infer<typeof ListFirings>

export const NextTimes = z.object({ time_zone: z.string(), times: z.array(Timestamp) })
export type NextTimes = z.infer<typeof NextTimes>

const SchedulePath = z.object({ schedule_id: z.uuid() })
const tag = 'Schedules'

export const scheduleRoutes = {
  create: route({
    name: 'schedules.create',
    method: 'POST',
    path: '/agent/schedules',
    tag,
    callers: ['user'],
    summary: 'Create a schedule: five fields of cron, and what its runs are asked for.',
    body: CreateSchedule,
    answer: Schedule,
    status: 201,
  }),
  list: route({
    name: 'schedules.list',
    method: 'GET',
    path: '/agent/schedules',
    tag,
    callers: ['user'],
    summary: 'The schedules that the caller may see, by name.',
    answer: z.object({ schedules: z.array(Schedule) }),
  }),
  get: route({
    name: 'schedules.get',
    method: 'GET',
    path: '/agent/schedules/{schedule_id}',
    tag,
    callers: ['user'],
    summary: 'One schedule.',
    params: SchedulePath,
    answer: Schedule,
  }),
  replace: route({
    name: 'schedules.replace',
    method: 'PUT',
    path: '/agent/schedules/{schedule_id}',
    tag,
    callers: ['user'],
    summary: 'Replace a schedule; runs that it made go on as they are.',
    params: SchedulePath,
    body: ReplaceSchedule,
    answer: Schedule,
  }),
  delete: route({
    name: 'schedules.delete',
    method: 'DELETE',
    path: '/agent/schedules/{schedule_id}',
    tag,
    callers: ['user'],
    summary: 'Delete a schedule; runs that it made go on, and name it still.',
    params: SchedulePath,
    answer: z.object({ success: z.boolean() }),
  }),
  pause: route({
    name: 'schedules.pause',
    method: 'POST',
    path: '/agent/schedules/{schedule_id}/pause',
    tag,
    callers: ['user'],
    summary: 'Make no runs until it is resumed; what comes due meanwhile never fires.',
    params: SchedulePath,
    answer: Schedule,
  }),
  resume: route({
    name: 'schedules.resume',
    method: 'POST',
    path: '/agent/schedules/{schedule_id}/resume',
    tag,
    callers: ['user'],
    summary: 'Make runs again, from the next planned time on.',
    params: SchedulePath,
    answer: Schedule,
  }),
  takeOver: route({
    name: 'schedules.take_over',
    method: 'POST',
    path: '/agent/schedules/{schedule_id}/take-over',
    tag,
    callers: ['user'],
    role: 'admin',
    people: true,
    summary:
      "Become who it acts for (ours): its next runs are the caller's. One that stands still because who made it has " +
      'left the team goes on.',
    params: SchedulePath,
    answer: Schedule,
  }),
  runNow: route({
    name: 'schedules.run_now',
    method: 'POST',
    idempotent: true,
    path: '/agent/schedules/{schedule_id}/run-now',
    tag,
    callers: ['user'],
    summary:
      'Make a run of it now (ours), also while it is paused or another is going on. An Idempotency-Key header makes ' +
      'repeating it safe for 24 hours.',
    params: SchedulePath,
    answer: CreatedRun,
  }),
  next: route({
    name: 'schedules.next',
    method: 'GET',
    path: '/agent/schedules/{schedule_id}/next',
    tag,
    callers: ['user'],
    summary: 'Its next planned times (ours), also while it is paused.',
    params: SchedulePath,
    query: z.object({ count: queryNumber(1, NEXT_TIMES_MAX).default(5) }),
    answer: NextTimes,
  }),
  history: route({
    name: 'schedules.history',
    method: 'GET',
    path: '/agent/schedules/{schedule_id}/history',
    tag,
    callers: ['user'],
    summary: 'What its times came to (ours), newest first: the runs, and why there was none.',
    params: SchedulePath,
    query: ListFirings,
    answer: z.object({ firings: z.array(Firing), page_info: PageInfo }),
  }),
}
