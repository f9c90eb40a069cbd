/** Fetches the suite into .cache/conformance; a folder that has it already is left as it is. */
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const VERSION = '0.2.0-alpha.12'
const FOLDER = resolve(import.meta.dirname, '../../.cache/conformance')
const PACKAGE = '@modelcontextprotocol/conformance'

export const SUITE = join(FOLDER, 'node_modules', PACKAGE, 'dist/index.js')

export default async function fetchSuite(): Promise<void> {
  const found = await readFile(join(FOLDER, 'node_modules', PACKAGE, 'package.json'), 'utf8').catch(() => '')
  if (found.includes(`"version": "${VERSION}"`)) return
  await mkdir(FOLDER, { recursive: true })
  await writeFile(join(FOLDER, 'package.json'), '{"private":true}\n')
  const options = ['--no-audit', '--no-fund', '--ignore-scripts']
  await promisify(execFile)('npm', ['install', ...options, `${PACKAGE}@${VERSION}`], { cwd: FOLDER })
}
