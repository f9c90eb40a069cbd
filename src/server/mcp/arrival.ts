/**
 * Whether all that was written to a connection has arrived, as the kernel knows it: Linux shows for each of its TCP
 * connections how many bytes the other end has not acknowledged (`/proc/net/tcp`, column `tx_queue`).
 *
 * Asked when the other end has closed, it tells two apart that look alike: who had read everything, for a program that
 * closes with bytes unread resets the connection instead (RFC 2525, section 2.17); and who closed while the answer was
 * on its way.
 */
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'

const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6']
/** The other end has closed, this one has not; as the kernel numbers its states. */
const CLOSE_WAIT = '08'

/** Null: nobody can tell. To be asked before this end closes, too. */
export function hasArrived(socket: Socket): boolean | null {
  const { localPort, remotePort } = socket
  if (process.platform !== 'linux' || localPort === undefined || remotePort === undefined) return null
  try {
    const own = TABLES.flatMap(readTable).filter((row) => row.local === localPort && row.remote === remotePort)
    const [one, ...others] = own
    // Two clients may use the same port of different addresses.
    if (others.length > 0) return null
    return one?.state === CLOSE_WAIT && one.unacknowledged === 0
  } catch {
    return null
  }
}

type Row = { local: number; remote: number; state: string; unacknowledged: number }

/** Lines such as `0: 0100007F:1F90 0100007F:C5A2 08 00000000:00000000 …`. */
function readTable(path: string): Row[] {
  const lines = readFileSync(path, 'utf8').trim().split('\n').slice(1)
  return lines.map((line) => {
    const [, local = '', remote = '', state = '', queues = ''] = line.trim().split(/\s+/)
    return { local: portOf(local), remote: portOf(remote), state, unacknowledged: Number.parseInt(queues, 16) }
  })
}

const portOf = (address: string): number => Number.parseInt(address.slice(address.lastIndexOf(':') + 1), 16)
