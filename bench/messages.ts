/**
 * From the call of `send_message_to_agent` to the moment at which the recipient's `wait_for_events` returns it, both
 * over `/mcp`, between a parent and its children, all of whom wait.
 */
import { pause } from '../src/sdk/client.ts'
import { type Agent, liftLimits, openCrowd } from './agents.ts'
import { type Figure, median, ms, quantile } from './figures.ts'
import { openPool, type Up, up } from './house.ts'

const AGENTS = 200
const MESSAGES_A_SECOND = 50
const SECONDS = 20
const WARM_SECONDS = 3
const P50_MS_MAX = 10
const P99_MS_MAX = 60
const COMMITS = 300

export async function messages(): Promise<Figure[]> {
  const baton = await up(['--no-worker', '--max-concurrent', '1000'])
  const crowd = await openCrowd(baton, AGENTS)
  try {
    await liftLimits(baton)
    const commit = await bareCommit(baton)
    const { parent, children } = crowd.families[0] ?? { parent: undefined, children: [] }
    if (parent === undefined) throw new Error('There is no parent.')
    await crowd.accompany(children)
    const letters = await correspond(parent, children)
    const delays = letters.map(({ sent, got }) => got - sent)
    const complete = letters.length === MESSAGES_A_SECOND * SECONDS && delays.every((delay) => delay >= 0)
    const p50 = median(delays)
    const p99 = quantile(delays, 0.99)
    return [
      { name: 'bare commit of one row in the same PostgreSQL, p50', value: ms(commit) },
      {
        name: `${letters.length} messages at ${MESSAGES_A_SECOND}/s to ${AGENTS} waiting agents: each once`,
        value: complete ? 'yes' : 'no',
        promise: 'no loss',
        held: complete,
      },
      {
        name: 'send → returned by `wait_for_events`, p50',
        value: ms(p50),
        promise: `≤ ${P50_MS_MAX} ms`,
        held: p50 <= P50_MS_MAX,
      },
      {
        name: 'send → returned by `wait_for_events`, p99',
        value: ms(p99),
        promise: `≤ ${P99_MS_MAX} ms`,
        held: p99 <= P99_MS_MAX,
      },
    ]
  } finally {
    await crowd.close()
    await baton.close()
  }
}

type Letter = { sent: number; got: number }

async function correspond(parent: Agent, children: Agent[]): Promise<Letter[]> {
  const letters = new Map<string, Letter>()
  let missing = 0
  let over = false
  const reading = children.map(async (child) => {
    while (!over) {
      const { events } = await child.call('wait_for_events').catch((error: Error) => {
        if (over) return { events: '' }
        throw error
      })
      const got = performance.now()
      for (const [name = ''] of String(events).matchAll(/letter-\d+/g)) {
        const letter = letters.get(name)
        if (letter === undefined || letter.got >= 0) throw new Error(`${name} came twice, or was never sent.`)
        letter.got = got
        missing -= 1
      }
    }
  })
  const failed = Promise.all(reading).then(() => {})
  const sending = async () => {
    const began = performance.now()
    const asked: Promise<unknown>[] = []
    for (let n = 0; n < (WARM_SECONDS + SECONDS) * MESSAGES_A_SECOND; n++) {
      const due = began + (n * 1000) / MESSAGES_A_SECOND
      if (due > performance.now()) await pause(due - performance.now())
      const to = children[n % children.length]
      const name = `letter-${n}`
      letters.set(name, { sent: performance.now(), got: -1 })
      missing += 1
      asked.push(parent.call('send_message_to_agent', { addresses: [to?.run_id], subject: 'A word', message: name }))
    }
    await Promise.all(asked)
    for (const until = performance.now() + 10_000; missing > 0 && performance.now() < until; ) await pause(20)
    over = true
  }
  await Promise.race([sending(), failed])
  failed.catch(() => {})
  return [...letters.values()].slice(WARM_SECONDS * MESSAGES_A_SECOND)
}

async function bareCommit(baton: Up): Promise<number> {
  const pool = await openPool(baton)
  try {
    await pool.query('create table bare_rows (id bigserial primary key, payload text)')
    const spent: number[] = []
    for (let n = 0; n < COMMITS; n++) {
      const began = performance.now()
      await pool.query(`insert into bare_rows (payload) values ('x')`)
      spent.push(performance.now() - began)
    }
    return median(spent)
  } finally {
    await pool.end()
  }
}
