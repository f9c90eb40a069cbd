/** What every page needs to ask with: the client, the queries and the tab's stream. */
import { createContext, type ReactNode, use, useSyncExternalStore } from 'react'
import type { Client } from '../../sdk/client.ts'
import type { Queries } from './queries.ts'
import type { Connection, TabStream } from './stream.ts'

export type Asking = { client: Client; queries: Queries }

const AskingContext = createContext<Asking | null>(null)
const StreamContext = createContext<TabStream | null>(null)

export function AskingProvider({ asking, children }: { asking: Asking; children: ReactNode }) {
  return <AskingContext value={asking}>{children}</AskingContext>
}

export function StreamProvider({ stream, children }: { stream: TabStream; children: ReactNode }) {
  return <StreamContext value={stream}>{children}</StreamContext>
}

export function useAsking(): Asking {
  const asking = use(AskingContext)
  if (!asking) throw new Error('Nothing to ask with: AskingProvider is missing above.')
  return asking
}

export function useStream(): TabStream {
  const stream = use(StreamContext)
  if (!stream) throw new Error('No stream: this part of the page stands outside the signed-in shell.')
  return stream
}

export function useConnection(): Connection {
  const stream = useStream()
  return useSyncExternalStore(stream.subscribe, stream.connection)
}
