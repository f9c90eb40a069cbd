/** The published SDK, unmodified, through every method that it has. */
import OzAPI from 'oz-agent-sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { callTool, openMcpClient } from '../house/mcp-agent.ts'
import { openProxy } from '../house/proxy.ts'
import type { Piece } from '../house/worker.ts'
import { ask, COMMAND, create, NOBODY, ownWorker, reaches, sdk, url } from './asking.ts'
import { CreatedRun, RunItem, RunList } from './wire.ts'
import { AgentList, Schedule } from './wire-named.ts'

const oz = sdk({ maxRetries: 0 })
let worker: Awaited<ReturnType<typeof ownWorker>>
let names = 0
const newName = (word: string) => `${word}-${process.pid}-${++names}`

beforeAll(async () => {
  worker = await ownWorker()
})
afterAll(() => worker.close())

test('agent.list answers what the environments offer', async () => {
  AgentList.parse(await oz.agent.list())
  AgentList.parse(await oz.agent.list({ sort_by: 'last_run', refresh: true }))
})

test('agent.run makes a run, which a worker ends, and runs.retrieve shows it whole', async () => {
  const config = { name: newName('echo'), ...COMMAND }
  const made = CreatedRun.parse(await oz.agent.run({ prompt: 'echo hello', title: 'Say hello', config, team: true }))
  await reaches(made.run_id, 'SUCCEEDED')
  const run = RunItem.parse(await oz.agent.runs.retrieve(made.run_id))
  expect(run).toMatchObject({ run_id: made.run_id, title: 'Say hello', prompt: 'echo hello', source: 'API' })
  expect(run.agent_config?.name).toBe(config.name)
  expect(run).toMatchObject({ execution_location: 'REMOTE', scope: { type: 'Team' }, creator: { type: 'user' } })
  expect(run.started_at).not.toBeNull()
  expect(run.run_time).toMatch(/^PT/)
})

describe('agent.runs.list', () => {
  const mark = newName('listed')
  let mine: string[] = []
  let environment_id = ''
  let creator = ''

  beforeAll(async () => {
    const { json } = await ask('POST', 'agent/environments', { body: { name: mark } })
    environment_id = z.object({ uid: z.string() }).parse(json).uid
    const configs = [
      { name: `${mark}-a`, model_id: `${mark}-model`, environment_id, ...NOBODY },
      { name: `${mark}-b`, skill_spec: `octo/tools:${mark}`, ...NOBODY },
      { name: `${mark}-c`, ...NOBODY },
    ]
    mine = []
    for (const [at, config] of configs.entries()) {
      const prompt = at === 1 ? '' : `${mark} number ${at}`
      mine.push(await create({ ...(prompt === '' ? {} : { prompt }), title: `${mark} title ${at}`, config }))
    }
    creator = (await oz.agent.runs.retrieve(mine[0] ?? '')).creator?.uid ?? ''
  })

  const listed = async (query: Parameters<typeof oz.agent.runs.list>[0]): Promise<string[]> => {
    const { runs } = RunList.parse(await oz.agent.runs.list({ limit: 500, ...query }))
    return runs.map(({ run_id }) => run_id).filter((run_id) => mine.includes(run_id))
  }
  const nth = (...at: number[]) => at.map((one) => mine[one])

  test('by name, model, environment, skill and text', async () => {
    expect(await listed({ name: `${mark}-b` })).toEqual(nth(1))
    expect(await listed({ model_id: `${mark}-model` })).toEqual(nth(0))
    expect(await listed({ environment_id })).toEqual(nth(0))
    expect(await listed({ environment_id: 'empty-environment' })).toEqual(nth(2, 1))
    expect(await listed({ skill: `octo/tools:${mark}` })).toEqual(nth(1))
    expect(await listed({ skill_spec: `octo/tools:${mark}` })).toEqual(nth(1))
    expect(await listed({ q: `${mark} number 2` })).toContain(mine[2])
  })

  test('by state, several at once, creator and source', async () => {
    expect(await listed({ state: ['QUEUED', 'SUCCEEDED'] })).toEqual(nth(2, 1, 0))
    expect(await listed({ state: ['SUCCEEDED', 'FAILED'] })).toEqual([])
    expect(await listed({ creator })).toEqual(nth(2, 1, 0))
    expect(await listed({ creator: crypto.randomUUID() })).toEqual([])
    expect(await listed({ source: 'API' })).toEqual(nth(2, 1, 0))
    expect(await listed({ source: 'SLACK' })).toEqual([])
  })

  test('by times, schedule and artifacts', async () => {
    const first = (await oz.agent.runs.retrieve(mine[0] ?? '')).created_at
    const last = (await oz.agent.runs.retrieve(mine[2] ?? '')).created_at
    expect(await listed({ created_after: first })).toEqual(expect.arrayContaining(nth(2, 1)))
    expect(await listed({ created_before: first })).not.toContain(mine[2])
    expect(await listed({ updated_after: last })).not.toContain(mine[0])
    expect(await listed({ schedule_id: crypto.randomUUID() })).toEqual([])
    expect(await listed({ artifact_type: 'PULL_REQUEST' })).toEqual([])
    const piece = await worker.take()
    piece.claim()
    await piece.start()
    const key = piece.assignment.env_vars.WARP_API_KEY ?? ''
    const data = { url: 'https://github.com/octo/tools/pull/7', branch: 'fix' }
    const report = { artifact_type: 'PULL_REQUEST', data }
    expect((await ask('POST', 'harness-support/report-artifact', { key, body: report })).status).toBe(200)
    mine.push(piece.run_id)
    expect(await listed({ artifact_type: 'PULL_REQUEST' })).toEqual([piece.run_id])
    expect(await listed({ artifact_type: 'PLAN' })).toEqual([])
    expect((await oz.agent.runs.retrieve(piece.run_id)).artifacts).toMatchObject([{ data }])
    mine.pop()
    await piece.finish()
    piece.complete()
  })

  test('page by page', async () => {
    const seen: string[] = []
    for (let cursor: string | undefined; ; ) {
      const page = RunList.parse(await oz.agent.runs.list({ limit: 1, q: mark, ...(cursor && { cursor }) }))
      seen.push(...page.runs.map(({ run_id }) => run_id))
      cursor = page.page_info.next_cursor
      if (!page.page_info.has_next_page) break
    }
    expect(seen.filter((run_id) => mine.includes(run_id))).toEqual(nth(2, 1, 0))
    expect(new Set(seen).size).toBe(seen.length)
  })
})

const begin = async (piece: Piece): Promise<void> => {
  piece.claim()
  await piece.start()
}

/** What brings a run that was offered into a state. */
const bring: Record<string, (piece: Piece) => Promise<unknown>> = {
  PENDING: async () => {},
  CLAIMED: async (piece) => piece.claim(),
  INPROGRESS: begin,
  BLOCKED: async (piece) => {
    await begin(piece)
    const mcp = await openMcpClient(url, piece.assignment.env_vars.WARP_API_KEY)
    const plan = { plan: '# Two steps', agents: [{ name: 'one', prompt: 'Do it.' }] }
    expect(await callTool(mcp, 'propose_plan', plan)).toMatchObject({ is_error: false })
    await mcp.close()
  },
}

/** What ends one that was offered. */
const ends: Record<string, (piece: Piece) => Promise<unknown>> = {
  SUCCEEDED: (piece) => piece.finish(),
  FAILED: (piece) => piece.finish({ outcome: 'FAILED', failure: { ...FAILURE, error_code: 'invalid_request' } }),
  ERROR: (piece) => piece.finish({ outcome: 'ERROR', failure: FAILURE }),
  CANCELLED: async (piece) => {
    await oz.agent.runs.cancel(piece.run_id)
    await piece.finish({ outcome: 'CANCELLED' })
  },
}
const FAILURE = { error_code: 'internal_error', message: 'It broke.', retryable: false } as const

describe('agent.runs.cancel', () => {
  test('of a queued run answers its id and ends it', async () => {
    const run_id = await create({ prompt: 'wait', config: NOBODY })
    expect(await oz.agent.runs.cancel(run_id)).toBe(run_id)
    expect((await oz.agent.runs.retrieve(run_id)).state).toBe('CANCELLED')
  })

  test.each(Object.keys(bring))('of one that is %s answers its id, and it ends as CANCELLED', async (state) => {
    const piece = await worker.take({ mode: state === 'BLOCKED' ? 'plan' : 'normal' })
    await bring[state]?.(piece)
    await reaches(piece.run_id, state)
    expect(await oz.agent.runs.cancel(piece.run_id)).toBe(piece.run_id)
    if (state === 'INPROGRESS' || state === 'BLOCKED') {
      await worker.cancelled()
      await piece.finish({ outcome: 'CANCELLED' })
    }
    await reaches(piece.run_id, 'CANCELLED')
  })

  test.each(Object.keys(ends))('of one that is %s is 400', async (state) => {
    const piece = await worker.take()
    await begin(piece)
    await ends[state]?.(piece)
    piece.complete()
    await reaches(piece.run_id, state)
    await expect(oz.agent.runs.cancel(piece.run_id)).rejects.toBeInstanceOf(OzAPI.BadRequestError)
  })

  test('of one that never was is 404', async () => {
    await expect(oz.agent.runs.cancel(crypto.randomUUID())).rejects.toBeInstanceOf(OzAPI.NotFoundError)
  })
})

describe('retries', () => {
  test('a refusal that asking again does not mend is asked once; a line that breaks is asked again', async () => {
    const proxy = await openProxy(Number(new URL(url).port))
    try {
      const seen: string[] = []
      proxy.cut((method, path) => {
        seen.push(`${method} ${path}`)
        return null
      })
      const through = sdk({ baseURL: `${proxy.url}/api/v1` })
      const { uid } = z
        .object({ uid: z.string() })
        .parse(await through.post('/agent/environments', { body: { name: newName('once') } }))
      seen.length = 0
      const stale = through.patch(`/agent/environments/${uid}`, { body: { description: 'x', version: 99 } })
      await expect(stale).rejects.toBeInstanceOf(OzAPI.ConflictError)
      expect(seen).toHaveLength(1)
      const run_id = await create({ prompt: 'true', config: COMMAND })
      await reaches(run_id, 'SUCCEEDED')
      seen.length = 0
      await expect(through.agent.runs.cancel(run_id)).rejects.toBeInstanceOf(OzAPI.BadRequestError)
      expect(seen).toHaveLength(1)
      let cuts = 0
      proxy.cut(() => (cuts++ < 2 ? 'before' : null))
      expect((await through.agent.runs.retrieve(run_id)).run_id).toBe(run_id)
      expect(cuts).toBe(3)
    } finally {
      await proxy.close()
    }
  })
})

test('agent.schedules: create, retrieve, list, update, pause, resume, delete', async () => {
  const name = newName('nightly')
  const body = { name, cron_schedule: '0 3 * * *', prompt: 'Tidy up.', agent_config: { name, ...NOBODY } }
  const { data: made, response } = await oz.agent.schedules.create(body).withResponse()
  expect(response.status).toBe(201)
  expect(Schedule.parse(made)).toMatchObject({ name, cron_schedule: '0 3 * * *', enabled: true, prompt: 'Tidy up.' })
  expect(Schedule.parse(await oz.agent.schedules.retrieve(made.id))).toEqual(Schedule.parse(made))
  await oz.agent.schedules.create({ ...body, name: `${name}-before`.replace('nightly', 'earlier') })
  const { schedules } = await oz.agent.schedules.list()
  expect(schedules.map((one) => one.id)).toContain(made.id)
  const sorted = schedules.map((one) => one.name)
  expect(sorted).toEqual([...sorted].sort((a, b) => a.localeCompare(b)))
  const changed = await oz.agent.schedules.update(made.id, { ...body, cron_schedule: '30 4 * * 1', enabled: true })
  expect(Schedule.parse(changed)).toMatchObject({ id: made.id, cron_schedule: '30 4 * * 1' })
  expect(Schedule.parse(await oz.agent.schedules.pause(made.id)).enabled).toBe(false)
  const resumed = Schedule.parse(await oz.agent.schedules.resume(made.id))
  expect(resumed.enabled).toBe(true)
  expect(Date.parse(resumed.history?.next_run ?? '')).toBeGreaterThan(Date.now())
  expect(await oz.agent.schedules.delete(made.id)).toEqual({ success: true })
  await expect(oz.agent.schedules.retrieve(made.id)).rejects.toBeInstanceOf(OzAPI.NotFoundError)
  await expect(oz.agent.schedules.create({ ...body, cron_schedule: 'often' })).rejects.toBeInstanceOf(
    OzAPI.BadRequestError,
  )
})

describe('errors', () => {
  test('an unknown path is a NotFoundError with a message', async () => {
    const error = await oz.get('/_stainless_unknown_path').catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(OzAPI.NotFoundError)
    expect(error).toMatchObject({ status: 404, error: { error: expect.any(String), status: 404 } })
  })

  test('each status is its class', async () => {
    const piece = await worker.take()
    piece.claim()
    await piece.start()
    const inside = sdk({ apiKey: piece.assignment.env_vars.WARP_API_KEY ?? '', maxRetries: 0 })
    const gone = await create({ prompt: 'true', config: COMMAND })
    await reaches(gone, 'SUCCEEDED')
    const letter = { to: [gone], subject: 'x', body: 'y', sender_run_id: piece.run_id }
    const cases: [new (...args: never[]) => Error, () => Promise<unknown>][] = [
      [OzAPI.BadRequestError, () => oz.agent.run({})],
      [OzAPI.BadRequestError, () => oz.agent.runs.list({ limit: 501 })],
      [OzAPI.AuthenticationError, () => sdk({ apiKey: `wk-1.${'0'.repeat(64)}`, maxRetries: 0 }).agent.runs.list()],
      [OzAPI.PermissionDeniedError, () => inside.agent.schedules.list().then()],
      [OzAPI.NotFoundError, () => oz.agent.runs.retrieve(crypto.randomUUID())],
      [OzAPI.UnprocessableEntityError, () => oz.post('/agent/messages', { body: letter })],
    ]
    for (const [kind, asking] of cases) await expect(asking()).rejects.toBeInstanceOf(kind)
    await piece.finish()
    piece.complete()
  })
})
