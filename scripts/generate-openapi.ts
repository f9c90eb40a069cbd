/** Writes openapi.json from the contract; a test says when it is out of date. */
import { writeFile } from 'node:fs/promises'
import { openApiFile } from '../src/server/openapi.ts'

await writeFile(new URL('../openapi.json', import.meta.url), openApiFile())
