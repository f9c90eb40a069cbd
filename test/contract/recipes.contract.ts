/** The shell recipes of the public guides, as written: curl and jq against the API, and an `oz` that is our command line. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ENTRY } from '../house/baton.ts'
import { api_key, COMMAND, create, NOBODY, reaches, runOf, url, worker_host } from './asking.ts'

let bin = ''
beforeAll(async () => {
  bin = await mkdtemp(join(tmpdir(), 'baton-oz-'))
  await symlink(ENTRY, join(bin, 'oz'))
})
afterAll(() => rm(bin, { recursive: true, force: true }))

/** As a person's terminal has it: only the host is another one. */
function shell(script: string, env: Record<string, string> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      env: {
        PATH: `${bin}:${process.env.PATH}`,
        HOME: bin,
        WARP_API_KEY: api_key,
        WARP_SERVER_ROOT_URL: url,
        OZ_API: `${url}/api/v1`,
        BATON_WORKER_HOST: worker_host,
        ...env,
      },
      timeout: 28_000,
    }
    execFile('bash', ['-euo', 'pipefail', '-c', script], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stderr}`))
      else resolve(stdout)
    })
  })
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '')

test('fan-out: one run per package, polled until all have ended, their results collected', async () => {
  const said = await shell(
    `
    ids=()
    for pkg in auth billing search web mail; do
      id=$(curl -sS -X POST "$OZ_API/agent/runs" \\
        -H "Authorization: Bearer $WARP_API_KEY" -H "Content-Type: application/json" \\
        -d "$(jq -n --arg p "echo migrated $pkg" --arg t "Migrate $pkg" \\
              '{prompt: $p, title: $t, config: $ENV.CONFIG | fromjson}')" \\
        | jq -r '.run_id')
      ids+=("$id")
    done
    for id in "\${ids[@]}"; do
      while :; do
        state=$(curl -sS "$OZ_API/agent/runs/$id" -H "Authorization: Bearer $WARP_API_KEY" | jq -r '.state')
        case "$state" in SUCCEEDED|FAILED|ERROR|CANCELLED) break ;; esac
        sleep 0.2
      done
      echo "$state $(curl -sS "$OZ_API/agent/runs/$id" -H "Authorization: Bearer $WARP_API_KEY" | jq -r '.title')"
      curl -sS "$OZ_API/agent/runs/$id/conversation" -H "Authorization: Bearer $WARP_API_KEY" \\
        | jq -r '[.. | strings | select(startswith("migrated"))] | first // "nothing"'
    done`,
    { CONFIG: JSON.stringify(COMMAND) },
  )
  for (const pkg of ['auth', 'billing', 'search', 'web', 'mail'])
    expect(said).toContain(`SUCCEEDED Migrate ${pkg}\nmigrated ${pkg}\n`)
})

test('the children of a run, all of them and not ten', async () => {
  const parent = await create({ prompt: 'wait', config: NOBODY })
  const children: string[] = []
  for (let at = 0; at < 30; at++)
    children.push(await create({ prompt: `part ${at}`, parent_run_id: parent, config: NOBODY }))
  const said = await shell(`oz --output-format json run list --ancestor-run ${parent} | jq -r '.runs[].run_id'`)
  expect(lines(said).sort()).toEqual(children.sort())
  const states = await shell(
    `oz run list --ancestor-run ${parent} --output-format json --jq '[.runs[].state] | unique | join(",")'`,
  )
  expect(states).toBe('QUEUED\n')
})

test('fleet cancellation: what a filter finds is cancelled by curl', async () => {
  const fleet = `fleet-${process.pid}`
  const runs = []
  for (let at = 0; at < 6; at++) runs.push(await create({ prompt: 'wait', config: { ...NOBODY, name: fleet } }))
  const said = await shell(
    `curl -sS --get "$OZ_API/agent/runs" -H "Authorization: Bearer $WARP_API_KEY" \\
       --data-urlencode "name=$FLEET" --data-urlencode state=QUEUED --data-urlencode state=INPROGRESS -d limit=100 \\
     | jq -r '.runs[].run_id' \\
     | xargs -P 4 -I {} curl -sS -X POST "$OZ_API/agent/runs/{}/cancel" \\
         -H "Authorization: Bearer $WARP_API_KEY" -w '\\n' \\
     | jq -r .`,
    { FLEET: fleet },
  )
  expect(lines(said).sort()).toEqual(runs.sort())
  for (const run_id of runs) expect((await runOf(run_id)).state).toBe('CANCELLED')
})

test('fleet cancellation: what the command line lists is cancelled by it', async () => {
  const fleet = `oz-fleet-${process.pid}`
  const runs = []
  for (let at = 0; at < 4; at++) runs.push(await create({ prompt: 'wait', config: { ...NOBODY, name: fleet } }))
  await shell(
    `oz --output-format json run list --state queued --state in-progress --name "$FLEET" --limit 100 \\
     | jq -r '.runs[].run_id' | xargs -n 1 oz run cancel`,
    { FLEET: fleet },
  )
  for (const run_id of runs) await reaches(run_id, 'CANCELLED')
})

test('a run made on the command line is found in its output and waited for by curl', async () => {
  const said = await shell(
    `RUN_ID=$(oz agent run-cloud -p 'echo from the shell' --harness command --output-format json \\
       | jq -r 'select(.run_id != null) | .run_id' | head -1)
     until curl -sS "$OZ_API/agent/runs/$RUN_ID" -H "Authorization: Bearer $WARP_API_KEY" \\
       | jq -e '.state == "SUCCEEDED"' >/dev/null; do sleep 0.2; done
     oz run get "$RUN_ID" --jq .state`,
  )
  expect(said.trim()).toBe('SUCCEEDED')
})
