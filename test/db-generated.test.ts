import { readFile } from 'node:fs/promises'
import { expect, onTestFinished, test } from 'vitest'
import { GENERATED, generateFromDatabase } from '../scripts/generate-db.ts'
import { freshDatabase } from './house/database.ts'

test('column types and schema.sql are those of the migrated database (else: npm run generate)', async () => {
  const database = await freshDatabase()
  onTestFinished(() => database.close())
  const { tables, schema } = await generateFromDatabase(database)
  expect(tables).toBe(await readFile(GENERATED.tables, 'utf8'))
  expect(schema).toBe(await readFile(GENERATED.schema, 'utf8'))
})

test('schema.sql makes the same schema', async () => {
  const database = await freshDatabase({ migrated: false })
  onTestFinished(() => database.close())
  const schema = await readFile(GENERATED.schema, 'utf8')
  await database.pool.query(schema)
  expect((await generateFromDatabase(database)).schema).toBe(schema)
})
