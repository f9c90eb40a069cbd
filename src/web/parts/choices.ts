/** What there is to choose from: harnesses, environments and workers of the team. */
import { useQuery } from '@tanstack/react-query'
import { useAsking } from '../data/context.tsx'
import { HARNESS_WORDS, harnessWord } from '../words.ts'

export type Options = (readonly [value: string, words: string])[]

/** `otherwise`: what it says where nothing is chosen. */
export function useHarnessOptions(otherwise: string): Options {
  const { queries } = useAsking()
  const workers = useQuery(queries.workers())
  const names = new Set([...Object.keys(HARNESS_WORDS), ...(workers.data?.flatMap((one) => one.harnesses ?? []) ?? [])])
  return [['', otherwise], ...[...names].map((name) => [name, harnessWord(name)] as const)]
}

/** By name, as a plan or a task names them; `failed`: they could not be read. */
export function useEnvironmentOptions(otherwise: string): { options: Options; failed: boolean } {
  const { queries } = useAsking()
  const environments = useQuery(queries.environments())
  const found = environments.data ?? []
  return {
    options: [['', otherwise], ...found.map(({ config }) => [config.name, config.name] as const)],
    failed: environments.isError,
  }
}

export function useWorkerOptions(): Options {
  const { queries } = useAsking()
  const workers = useQuery(queries.workers())
  return (workers.data ?? []).map(({ worker_host }) => [worker_host, worker_host] as const)
}
