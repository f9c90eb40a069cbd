/** One PostgreSQL for the whole vitest run. */
import type { TestProject } from 'vitest/node'
import { startTestPostgres } from './postgres.ts'

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const postgres = await startTestPostgres()
  project.provide('postgres', postgres.connection)
  return postgres.close
}
