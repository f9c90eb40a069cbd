/** Templates whose order the server keeps: fan-out, review swarm, graph, A/B, several repositories. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { commands, openPatterns, type Patterns } from './house/patterns.ts'

const TEST_MS = 90_000

const write = (file: string, text: string, branch: string, message: string) => [
  `git switch -q -c ${branch} && printf '${text}\\n' > ${file} && git add -A && git commit -qm '${message}'`,
  `git push -q origin HEAD:${branch}`,
]

let patterns: Patterns
beforeAll(async () => {
  patterns = await openPatterns([
    {
      prompt: /Review the branch feature\/good/,
      next: commands(['git diff origin/main...HEAD'], 'APPROVE\n\nNothing was found.'),
    },
    {
      prompt: /Review the branch feature\/bad/,
      next: ({ calls, told, bash }) => {
        if (calls === 0) return bash('git diff origin/main...HEAD')
        return told.includes('+rm -rf') ? 'REQUEST CHANGES\n\n- bad.sh:1 removes everything.' : 'I saw no diff.'
      },
    },
    { prompt: /Write the greeting/, next: commands(write('hello.txt', 'hello', 'baton/dag', 'Greet'), 'I greet now.') },
    { prompt: /Write it badly/, next: commands(write('hello.txt', 'oops', 'baton/bad', 'Oops'), 'I think so.') },
    {
      prompt: /Count to three[\s\S]*Your branch is baton\/ab-a/,
      next: commands(write('count.txt', '1 2 3', 'baton/ab-a', 'Count on one line'), 'On one line.'),
    },
    {
      prompt: /Count to three[\s\S]*Your branch is baton\/ab-b/,
      next: commands(write('count.txt', '1\\n2\\n3', 'baton/ab-b', 'Count down the page'), 'On three lines.'),
    },
    {
      prompt: /Raise the version/,
      next: commands(write('version', '2', 'baton/update', 'Raise the version to 2'), 'It is 2 now.'),
    },
  ])
})
afterAll(() => patterns?.close())

test(
  'fan-out: every shard runs in a checkout of its own, and one report joins them, failures too',
  async () => {
    const repo = patterns.origin('shards', { 'a/test.sh': 'echo a is fine', 'b/test.sh': 'echo b is broken; exit 3' })
    const sets = [`repo=${repo}`, 'shards=a\nb', 'command=echo "shard $SHARD"; sh "$SHARD/test.sh"']
    const { state, tasks } = await patterns.batch('fan-out', sets)
    expect(tasks).toMatchObject({
      'shard 1': { state: 'completed', title: 'a' },
      'shard 2': { state: 'completed', title: 'b' },
      report: { state: 'failed', depends_on: ['shard 1', 'shard 2'] },
    })
    expect(state).toBe('failed')
    const report = await patterns.artifact(tasks.report?.run_id ?? '')
    expect(report).toMatch(/^# 2 shards, 1 failed\n/)
    expect(report).toMatch(/\| a \| 0 \| [\d.]+ \|\n\| b \| 3 \| [\d.]+ \|\n/)
    expect(report).toContain('## a\n\n```\nshard a\na is fine\n')
    expect(report).toContain('b is broken')
  },
  TEST_MS,
)

test(
  'review swarm: one agent for each real branch, one list of what they found',
  async () => {
    const repo = patterns.origin('reviews', { 'app.sh': 'echo app\n' })
    patterns.push(repo, 'feature/good', { 'good.sh': 'echo good\n' })
    patterns.push(repo, 'feature/bad', { 'bad.sh': 'rm -rf /\n' })
    const { state, tasks } = await patterns.batch('review-swarm', [
      `repo=${repo}`,
      'branches=feature/good',
      'branches=feature/bad',
    ])
    expect(state).toBe('completed')
    expect(tasks['review 2']).toMatchObject({ title: 'Review feature/bad', harness: 'baton' })
    const reviews = await patterns.artifact(tasks.findings?.run_id ?? '')
    expect(reviews).toMatch(/^# Reviews\n\n## feature\/good\n\nAPPROVE\n/)
    expect(reviews).toMatch(/\n## feature\/bad\n\nREQUEST CHANGES\n\n- bad\.sh:1 removes everything\.\n/)
    expect(patterns.git(repo, 'branch', '--format=%(refname:short)').split('\n').sort()).toEqual([
      'feature/bad',
      'feature/good',
      'main',
    ])
  },
  TEST_MS,
)

test(
  'graph: what passes tests and checks is merged, and nothing else is',
  async () => {
    const repo = patterns.origin('graph', { 'readme.md': 'Hello\n' })
    const ask = (task: string, branch: string) =>
      patterns.batch('dag', [`repo=${repo}`, `task=${task}`, `branch=${branch}`, 'test=grep -qx hello hello.txt'])
    const [good, bad] = [await ask('Write the greeting.', 'baton/dag'), await ask('Write it badly.', 'baton/bad')]
    expect(good.state).toBe('completed')
    expect(patterns.git(repo, 'log', '-1', '--format=%s', 'main')).toBe('Merge baton/dag')
    expect(patterns.git(repo, 'show', 'main:hello.txt')).toBe('hello')
    expect(bad.state).toBe('failed')
    expect(bad.tasks).toMatchObject({
      implement: { state: 'completed' },
      test: { state: 'failed' },
      check: { state: 'completed' },
      merge: { state: 'failed', tries: 0, error: expect.stringContaining('test') },
    })
    expect(patterns.git(repo, 'log', '--format=%s', 'main')).not.toContain('baton/bad')
  },
  TEST_MS,
)

test(
  'A/B: two harnesses do the same, and their diffs, checks and costs stand side by side',
  async () => {
    const repo = patterns.origin('ab', { 'readme.md': 'Count\n' })
    const { state, tasks } = await patterns.batch('a-b', [
      `repo=${repo}`,
      'task=Count to three in count.txt.',
      'check=test $(wc -l < count.txt) -eq 3',
      'harness_a=oz',
      'harness_b=other',
    ])
    expect(state).toBe('completed')
    const text = await patterns.artifact(tasks.compare?.run_id ?? '')
    const commit = (side: string) => patterns.git(repo, 'rev-parse', '--short', `baton/ab-${side}`)
    expect(text).toContain(`| commit | ${commit('a')} | ${commit('b')} |`)
    expect(text).toMatch(/\| agent \| baton[^|]* \| other[^|]* \|/)
    expect(text).toMatch(/\| tokens in, out \| 300, 30 \| 300, 30 \|/)
    expect(text).toContain('| cost in USD | not known | not known |')
    expect(text).toContain('| change | 1 file changed, 1 insertion(+) | 1 file changed, 3 insertions(+) |')
    expect(text).toContain('| exit code of the check | 1 | 0 |')
    expect(text).toContain('## a: in its own words\n\nOn one line.\n')
    expect(text).toMatch(/## a: the diff[\s\S]*\+1 2 3\n[\s\S]*## b: the diff[\s\S]*\+1\n\+2\n\+3\n/)
  },
  TEST_MS,
)

test(
  'several repositories: the same change is one commit on one branch of each',
  async () => {
    const repos = ['one', 'two'].map((name) => patterns.origin(name, { version: '1\n' }))
    const { state, tasks } = await patterns.batch('multi-repository', [
      ...repos.map((repo) => `repos=${repo}`),
      'task=Raise the version to 2.',
      'message=Raise the version to 2',
    ])
    expect(state).toBe('completed')
    for (const repo of repos) {
      expect(patterns.git(repo, 'log', '--format=%s', 'main..baton/update')).toBe('Raise the version to 2')
      expect(patterns.git(repo, 'show', 'baton/update:version')).toBe('2')
      expect(patterns.git(repo, 'show', 'main:version')).toBe('1')
    }
    const summary = await patterns.artifact(tasks.summary?.run_id ?? '')
    const [one = '', two = ''] = repos
    const commit = (repo: string) => patterns.git(repo, 'rev-parse', '--short', 'baton/update')
    expect(summary).toContain(`| ${one} | ${commit(one)} | Raise the version to 2 |  |`)
    expect(summary).toContain(`| ${two} | ${commit(two)} | Raise the version to 2 |  |`)
    expect(summary).toContain('- repository 1: It is 2 now.')
  },
  TEST_MS,
)

test('a template that is started wrongly starts nothing, and is told how', async () => {
  const before = await patterns.client.runs.list({ query: { limit: 1 } })
  const cloud = ['agent', 'run-cloud']
  await expect(
    patterns.baton(...cloud, '--template', 'dag', '--set', 'repo=.', '--set', 'task=x', '--set', 'test=x'),
  ).rejects.toThrow(/ended with 2:[\s\S]*baton batch run --template dag/)
  await expect(patterns.baton(...cloud, 'Do it', '--template', 'critic-loop')).rejects.toThrow(/prompt of its own/)
  await expect(patterns.baton(...cloud, 'Do it', '--set', 'a=b')).rejects.toThrow(/--set is for a template/)
  await expect(patterns.baton('batch', 'run', '--template', 'a-b', '--set', 'repos=.')).rejects.toThrow(
    /ended with 2:[\s\S]*no parameter repos[\s\S]*baton template show a-b/,
  )
  await expect(patterns.baton('batch', 'run', '--template', 'nothing')).rejects.toThrow(/ended with 5:[\s\S]*fan-out/)
  expect((await patterns.client.runs.list({ query: { limit: 1 } })).runs).toEqual(before.runs)
})
