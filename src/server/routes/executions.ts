import { type Control, executionRoutes, Fault, localRunRoutes } from '../../contract/index.ts'
import type { Caller, ExecutionCaller } from '../../engine/caller.ts'
import { type Answer, mount, mountStream } from '../answers.ts'
import { frame } from '../hub.ts'
import { pollLoop } from '../poll.ts'
import type { ServerRoom } from '../room.ts'
import type { EventStream } from '../streams.ts'

/** A control stream looks for itself this often; the bell and the heartbeat's answer come sooner. */
const CONTROL_POLL_MS = 30_000

export function executionAnswers(room: ServerRoom): Answer[] {
  const { engine, watches, known } = room
  return [
    mount(executionRoutes.list, ({ caller, params }) => engine.executions.list(caller, params.run_id)),
    mount(localRunRoutes.create, ({ caller, body }) => engine.executions.createLocal(caller, body)),
    mount(executionRoutes.start, ({ caller, params }) => engine.executions.start(caller, params.execution_id)),
    mount(executionRoutes.heartbeat, ({ caller, params, body }) =>
      engine.executions.heartbeat(caller, params.execution_id, body),
    ),
    mount(executionRoutes.append, ({ caller, params, body }) =>
      engine.executions.append(caller, params.execution_id, body.entries),
    ),
    mount(executionRoutes.deltas, async ({ caller, params, body }) => {
      const { run_id, execution_id } = ownExecution(caller, params.execution_id)
      return { watched: watches.show(run_id, execution_id, body.deltas) }
    }),
    mount(executionRoutes.finish, async ({ caller, params, body }) => {
      const ended = await engine.executions.finish(caller, params.execution_id, body)
      if (!ended.inbox) known.forget(params.execution_id)
      return ended
    }),
    mount(executionRoutes.inbox, ({ caller, params, body }) => engine.mail.inbox(caller, params.execution_id, body)),
    mount(executionRoutes.delivered, ({ caller, params, body }) =>
      engine.mail.delivered(caller, params.execution_id, body),
    ),
    mount(executionRoutes.session, ({ caller, params }) => engine.sessions.read(caller, params.execution_id)),
    mount(executionRoutes.keep, ({ caller, params, body }) => engine.sessions.keep(caller, params.execution_id, body)),
    mount(executionRoutes.children, ({ caller, params }) => engine.executions.children(caller, params.execution_id)),
    mountStream(
      executionRoutes.control,
      ({ caller, params }, stream) => followControl(room, caller, params.execution_id, stream),
      async ({ caller, params }) => void ownExecution(caller, params.execution_id),
    ),
  ]
}

/**
 * Says `cancel` and `shutdown` once, `tree` when that was stopped or released, what waits whenever there is reason to
 * look and something waits, and ends with `superseded`. A runner that hears of the same mail twice finds it gone the
 * second time.
 */
async function followControl(
  { engine, log, limits }: ServerRoom,
  caller: Caller,
  execution_id: string,
  stream: EventStream,
): Promise<void> {
  const say = (control: Control) => stream.write(frame(control))
  let cancel_said = false
  let shutdown_said = false
  let halted_said = false
  say({ type: 'hello' })
  const loop = pollLoop({
    name: 'control',
    log,
    // Runners that came together, as after a restart, do not go on looking together.
    poll_ms: () => CONTROL_POLL_MS * (0.5 + Math.random()),
    gather_ms: limits.gather_ms,
    async step() {
      try {
        const now = await engine.executions.check(caller, execution_id)
        const { cancel_requested, halted, shut_down, inbox, urgent, children, attachments } = now
        if (cancel_requested && !cancel_said) say({ type: 'cancel' })
        cancel_said ||= cancel_requested
        if (shut_down && !shutdown_said) say({ type: 'shutdown' })
        shutdown_said ||= shut_down
        if (halted !== halted_said) say({ type: 'tree', halted })
        halted_said = halted
        // First, so that they are there when what is said of them is.
        if (attachments) say({ type: 'attachments' })
        if (inbox) say({ type: 'inbox', urgent })
        if (children) say({ type: 'children' })
      } catch (thrown) {
        if (!(thrown instanceof Fault)) throw thrown
        say({ type: 'superseded' })
        stream.end()
      }
    },
  })
  const deaf = [
    engine.bell.hear('control', (ring) => ring.execution_id === execution_id && loop.wake()),
    // A call that is held here takes the mail; what it leaves rings again.
    engine.bell.hear('mail', (ring) => {
      if (ring.execution_id === execution_id && !engine.mail.holds(execution_id)) loop.wake()
    }),
    engine.bell.hear('reconnected', loop.wake),
  ]
  await ended(stream)
  for (const stop of deaf) stop()
  await loop.close()
}

const ended = (stream: EventStream): Promise<void> =>
  new Promise((resolve) => {
    if (stream.closed.aborted) resolve()
    else stream.closed.addEventListener('abort', () => resolve(), { once: true })
  })

function ownExecution(caller: Caller, execution_id: string): ExecutionCaller {
  if (caller.kind !== 'execution' || caller.execution_id !== execution_id.toLowerCase()) {
    throw new Fault('resource_not_found', `There is no execution ${execution_id}.`)
  }
  if (caller.ended)
    throw new Fault('conflict', 'This execution has ended; stop and write nothing more.', { retryable: false })
  return caller
}
