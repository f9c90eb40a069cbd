import { scheduleRoutes } from '../../contract/index.ts'
import { type Answer, mount } from '../answers.ts'
import type { ServerRoom } from '../room.ts'

export function scheduleAnswers({ engine: { schedules } }: ServerRoom): Answer[] {
  return [
    mount(scheduleRoutes.create, ({ caller, body }) => schedules.create(caller, body)),
    mount(scheduleRoutes.list, ({ caller }) => schedules.list(caller)),
    mount(scheduleRoutes.get, ({ caller, params }) => schedules.get(caller, params.schedule_id)),
    mount(scheduleRoutes.replace, ({ caller, params, body }) => schedules.replace(caller, params.schedule_id, body)),
    mount(scheduleRoutes.delete, ({ caller, params }) => schedules.delete(caller, params.schedule_id)),
    mount(scheduleRoutes.pause, ({ caller, params }) => schedules.pause(caller, params.schedule_id)),
    mount(scheduleRoutes.resume, ({ caller, params }) => schedules.resume(caller, params.schedule_id)),
    mount(scheduleRoutes.takeOver, ({ caller, params }) => schedules.takeOver(caller, params.schedule_id)),
    mount(scheduleRoutes.runNow, async ({ caller, params, idempotency_key: key, setHeader }) => {
      const { answer, replayed } = await schedules.runNow(caller, params.schedule_id, key)
      if (replayed) setHeader('idempotency-replayed', 'true')
      return answer
    }),
    mount(scheduleRoutes.next, ({ caller, params, query }) => schedules.next(caller, params.schedule_id, query.count)),
    mount(scheduleRoutes.history, ({ caller, params, query }) => schedules.history(caller, params.schedule_id, query)),
  ]
}
