/** A command line and a server of different versions. */
import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'
import packageFile from '../package.json' with { type: 'json' }
import { ENTRY, emptyPlace } from './house/baton.ts'
import { serveOnLoopback } from './house/loopback.ts'

/** What `whoami` says on stderr of a server that answers as this version. */
async function whoami(version: string): Promise<string> {
  const url = await serveOnLoopback((_request, _body, answer) => {
    answer.writeHead(200, { 'content-type': 'application/json', 'x-baton-version': version })
    const team = { team_id: 't', name: 'default', max_concurrent_runs: 4 }
    answer.end(JSON.stringify({ kind: 'user', user: { user_id: 'u', display_name: 'Owner' }, team, by: 'api_key' }))
  })
  const place = await emptyPlace()
  try {
    const env = { ...place.env, BATON_SERVER: url, BATON_API_KEY: `wk-1.${'0'.repeat(64)}` }
    const child = spawn(process.execPath, [ENTRY, 'whoami'], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (bytes: Buffer) => {
      said += bytes.toString()
    })
    await new Promise((done) => child.once('exit', done))
    return said
  } finally {
    await place.remove()
  }
}

test('a server of another version is named once, one of the same is not', async () => {
  expect(await whoami('99.1.0')).toMatch(/The server is Baton 99\.1\.0, this command line .*same version/)
  expect(await whoami(packageFile.version)).not.toContain('The server is Baton')
})
