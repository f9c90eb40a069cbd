/** Templates whose agents talk: a supervisor with workers, a writer with a critic, a swarm. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openPatterns, type Patterns, type Script } from './house/patterns.ts'

const TEST_MS = 90_000
const ITEMS = ['alpha', 'beta', 'gamma']

let patterns: Patterns
beforeAll(async () => {
  patterns = await openPatterns([
    { prompt: /You are the supervisor/, next: supervise },
    { prompt: /A WORKER of the supervisor/, next: work },
    { prompt: /You are the writer/, next: write },
    { prompt: /A CRITIC of the writer/, next: criticise },
    { prompt: /You are "server"/, next: peer('server', 'page', 1) },
    { prompt: /You are "page"/, next: peer('page', 'server', 2) },
    {
      prompt: /Several agents have each built a part/,
      next: ({ used, bash }) => {
        const merge = 'git merge -q --no-ff -m'
        if (used('bash') === 0)
          return bash(
            `git switch -q -c baton/swarm-all && ${merge} "Join server" origin/baton/swarm-1 && ` +
              `${merge} "Join page" origin/baton/swarm-2 && git push -q origin HEAD:baton/swarm-all`,
          )
        return 'Both are joined.'
      },
    },
  ])
})
afterAll(() => patterns?.close())

const supervise: Script['next'] = ({ told, used, bash, platform, send, wait }) => {
  if (used('run_agents') === 0) {
    const agent_run_configs = [0, 1].map((at) => ({ name: `worker-${at + 1}`, prompt: `ITEM:${ITEMS[at]}` }))
    return platform('run_agents', { base_prompt: 'A WORKER of the supervisor.', agent_run_configs })
  }
  const done = [...told.matchAll(/DONE (\w+) by (worker-\d)/g)].map(([, item = '', worker = '']) => ({ item, worker }))
  const open = done.find(({ item }) => used('bash', `Merge ${item}`) === 0)
  if (open !== undefined)
    return bash(
      '(git switch -q baton/supervised 2> /dev/null || git switch -q -c baton/supervised) && git fetch -q origin && ' +
        `git merge -q --no-ff -m "Merge ${open.item}" origin/baton/supervised-${open.item}`,
    )
  const unsaid = done.find(({ item }) => used('send_message_to_agent', `After ${item}`) === 0)
  if (unsaid !== undefined) {
    const more = used('send_message_to_agent', 'ITEM:gamma') === 0 ? 'ITEM:gamma' : 'NOTHING LEFT'
    return send([unsaid.worker], `After ${unsaid.item}`, more)
  }
  if (done.length < ITEMS.length) return wait()
  if (used('bash', 'push') === 0) return bash('git push -q origin HEAD:baton/supervised')
  if (used('report_artifact') === 0) {
    const content = done.map(({ item, worker }) => `- ${item}: ${worker}\n`).join('')
    return platform('report_artifact', { artifact_type: 'FILE', filename: 'summary.md', content })
  }
  if (used('finish_task') === 0) return platform('finish_task', { success: true, summary: 'All three items are in.' })
  return 'Done.'
}

const work: Script['next'] = ({ told, used, bash, send, wait }) => {
  const items = [...told.matchAll(/ITEM:(\w+)/g)].map(([, item = '']) => item)
  const item = items.find((one) => used('send_message_to_agent', `DONE ${one}`) === 0)
  if (item === undefined) return told.includes('NOTHING LEFT') ? 'I end.' : wait()
  if (used('bash', `supervised-${item}`) === 0)
    return bash(
      `git switch -q -c work-${item} origin/main && echo ${item} > ${item}.txt && git add -A && ` +
        `git commit -qm "Write ${item}" && git push -q origin HEAD:baton/supervised-${item}`,
    )
  const me = items[0] === 'alpha' ? 'worker-1' : 'worker-2'
  return send(['parent'], `Done with ${item}`, `DONE ${item} by ${me}`)
}

const write: Script['next'] = ({ told, used, bash, platform, send, wait }) => {
  const put = (text: string) =>
    bash(
      `(git switch -q -c baton/critic-loop || true) && echo "${text}" > words.txt && git add -A && ` +
        `git commit -qm "${text}" && git push -q origin HEAD:baton/critic-loop`,
    )
  const budget = Number(/The budget is (\d+) reviews/.exec(told)?.[1])
  const reviews = told.match(/NOTE \d: mend it/g)?.length ?? 0
  const approved = told.includes('It is good now.')
  if (used('bash') === 0) return put('a draft')
  if (used('run_agents') === 0)
    return platform('run_agents', { agent_run_configs: [{ name: 'critic', prompt: 'A CRITIC of the writer.' }] })
  if (!approved && reviews > used('bash') - 1) return put(reviews === 1 ? 'a better draft' : 'flawless words')
  if (!approved && reviews < budget) {
    if (reviews > used('send_message_to_agent')) return send(['critic'], 'Look again', `Mended ${reviews}.`)
    return wait()
  }
  if (used('report_artifact') === 0) {
    const content = `${reviews} reviews asked for changes.\n`
    return platform('report_artifact', { artifact_type: 'FILE', filename: 'review.md', content })
  }
  if (!approved && used('send_message_to_agent', 'End now') === 0) return send(['critic'], 'The end', 'End now.')
  if (used('finish_task') === 0) {
    const summary = approved ? 'It was approved.' : 'The budget is used up; note 1 is open.'
    return platform('finish_task', { success: approved, summary })
  }
  return 'Done.'
}

const criticise: Script['next'] = ({ told, used, bash, send, wait }) => {
  const asked = 1 + (told.match(/Mended \d/g)?.length ?? 0)
  const answered = used('send_message_to_agent')
  if (told.includes('End now.') || used('send_message_to_agent', 'APPROVED') > 0) return 'I end.'
  if (answered === asked) return wait()
  if (used('bash') < asked) return bash('git fetch -q origin && git show origin/baton/critic-loop:words.txt')
  if (told.includes('flawless words')) return send(['parent'], 'APPROVED', 'It is good now.')
  return send(['parent'], 'CHANGES', `NOTE ${asked}: mend it.`)
}

function peer(own: string, other: string, number: number): Script['next'] {
  return ({ told, used, bash, send, wait }) => {
    if (used('send_message_to_agent', 'I provide') === 0) return send([other], 'My part', `I provide ${own}.txt.`)
    if (!told.includes(`I provide ${other}.txt`)) return wait()
    if (used('bash') === 0)
      return bash(
        `echo "${own} uses ${other}.txt" > ${own}.txt && git add -A && git commit -qm "Build ${own}" && ` +
          `git push -q origin HEAD:baton/swarm-${number}`,
      )
    if (used('send_message_to_agent', 'is pushed') === 0) return send([other], 'Pushed', `${own} is pushed.`)
    if (!told.includes(`${other} is pushed.`)) return wait()
    return `${own} fits ${other}.`
  }
}

test(
  'supervisor and workers: a queue of three items goes through two workers, branch by branch',
  async () => {
    const repo = patterns.origin('supervised', { 'readme.md': 'Words\n' })
    const run = await patterns.run('supervisor-worker', [`repo=${repo}`, 'task=Write all the words.', 'workers=2'])
    expect(run).toMatchObject({ state: 'SUCCEEDED', title: 'Write all the words.' })
    const subjects = patterns.git(repo, 'log', '--first-parent', '--format=%s', 'main..baton/supervised')
    expect(subjects.split('\n').sort()).toEqual(ITEMS.map((item) => `Merge ${item}`))
    for (const item of ITEMS) expect(patterns.git(repo, 'show', `baton/supervised:${item}.txt`)).toBe(item)
    expect(run.children).toHaveLength(2)
    expect(await patterns.artifact(run.run_id)).toMatch(/- gamma: worker-[12]\n/)
    expect(patterns.git(repo, 'log', '--format=%s', 'main')).toBe('Write readme.md')
  },
  TEST_MS,
)

test(
  'critic: the writer mends what is noted until it is approved',
  async () => {
    const repo = patterns.origin('criticised', { 'readme.md': 'Words\n' })
    const run = await patterns.run('critic-loop', [`repo=${repo}`, 'task=Write fine words.'])
    expect(run.state).toBe('SUCCEEDED')
    expect(patterns.git(repo, 'log', '--format=%s', 'main..baton/critic-loop').split('\n')).toEqual([
      'flawless words',
      'a better draft',
      'a draft',
    ])
    expect(run.children).toHaveLength(1)
    expect(await patterns.artifact(run.run_id)).toBe('2 reviews asked for changes.\n')
  },
  TEST_MS,
)

test(
  'critic: a budget that is used up ends the loop, and says so',
  async () => {
    const repo = patterns.origin('budget', { 'readme.md': 'Words\n' })
    const run = await patterns.run('critic-loop', [`repo=${repo}`, 'task=Write fine words.', 'rounds=1'])
    expect(run.state).toBe('FAILED')
    expect(run.status_message?.message).toBe('The budget is used up; note 1 is open.')
    expect(await patterns.artifact(run.run_id)).toBe('1 reviews asked for changes.\n')
    expect(patterns.git(repo, 'show', 'baton/critic-loop:words.txt')).toBe('a better draft')
  },
  TEST_MS,
)

test(
  'swarm: peers find each other by name, agree, push a branch each, and one joins them',
  async () => {
    const repo = patterns.origin('swarm', { 'readme.md': 'Parts\n' })
    const { state, tasks } = await patterns.batch('swarm', [
      `repo=${repo}`,
      'task=Build a page and its server.',
      'roles=server\npage',
    ])
    expect(tasks).toMatchObject({ server: { state: 'completed' }, page: { state: 'completed' } })
    expect(state).toBe('completed')
    expect(patterns.git(repo, 'show', 'baton/swarm-all:server.txt')).toBe('server uses page.txt')
    expect(patterns.git(repo, 'show', 'baton/swarm-all:page.txt')).toBe('page uses server.txt')
    expect(patterns.git(repo, 'log', '--first-parent', '--format=%s', 'main..baton/swarm-all').split('\n')).toEqual([
      'Join page',
      'Join server',
    ])
  },
  TEST_MS,
)
