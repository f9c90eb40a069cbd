/** One `postgres` process: starting it, and stopping one whoever started it. */
import { spawn } from 'node:child_process'
import { copyFile, open, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Binaries } from './binaries.ts'
import { POSTGRES_ENVIRONMENT, spawnRefusal } from './initdb.ts'
import type { Place } from './place.ts'
import type { PostgresUser } from './postgres-user.ts'

/**
 * 20 MB when idle. No TCP. No I/O workers, parallel workers or replication launcher: each is a process. Errors and
 * statements are not logged (they hold prompts, and the client gets the error); crashes and recoveries are.
 */
export const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  port: '5432',
  unix_socket_permissions: '0700',
  max_connections: '100',
  shared_buffers: '32MB',
  max_wal_size: '256MB',
  min_wal_size: '32MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  io_method: 'sync',
  max_logical_replication_workers: '0',
  max_parallel_workers_per_gather: '0',
  jit: 'off',
  fsync: 'on',
  timezone: 'UTC',
  log_timezone: 'UTC',
  logging_collector: 'off',
  log_checkpoints: 'off',
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_parameter_max_length_on_error: '0',
}

const LOG_BYTES_MAX = 4 * 1024 * 1024
const STOP_MS_MAX = 30_000
const POLL_MS = 20
/**
 * It removes its lock file as it ends. An adopted one then stays as a zombie where no init reaps it: do not wait
 * for ever.
 */
const UNREAPED_MS = 500

/** `failure` is null until the process has ended by itself; then its last words. */
export type PostgresProcess = { pid: number; ended: Promise<void>; failure(): string | null }

/** A session and process group of its own: signals from a terminal, or our death, do not reach it. */
export async function startPostgres(
  place: Place,
  binaries: Binaries,
  user: PostgresUser | null,
  settings: Record<string, string>,
): Promise<PostgresProcess> {
  await turnLog(place.log_file)
  const log = await open(place.log_file, 'a', 0o600)
  try {
    const from = (await log.stat()).size
    const argv = [
      '-D',
      place.cluster,
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ]
    const child = spawn(binaries.postgres, argv, {
      ...user,
      cwd: '/',
      env: POSTGRES_ENVIRONMENT,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    })
    await new Promise<void>((resolve, reject) =>
      child.once('spawn', resolve).once('error', (error) => reject(spawnRefusal(error))),
    )
    child.unref()
    let failure: string | null = null
    const ended = new Promise<void>((resolve) => {
      child.once('exit', (code, signal) => {
        readFile(place.log_file)
          .then(
            (text) => text.subarray(from).toString('utf8'),
            () => '',
          )
          .then((words) => {
            failure = words.trim() || `It ended with ${signal ?? `exit code ${code}`}.`
            resolve()
          })
      })
    })
    return { pid: child.pid ?? 0, ended, failure: () => failure }
  } finally {
    await log.close()
  }
}

/** Fast shutdown: ends sessions, writes a checkpoint. Resolves when the process is gone. */
export async function stopPostgres(pid: number, cluster: string): Promise<void> {
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    if (!kill(pid, signal)) return
    const deadline = performance.now() + STOP_MS_MAX
    let unlocked_ms = 0
    while (performance.now() < deadline) {
      if (!kill(pid, 0) || unlocked_ms > UNREAPED_MS) return
      if ((await readPostmaster(cluster))?.pid !== pid) unlocked_ms += POLL_MS
      await delay(POLL_MS)
    }
  }
}

/** From postmaster.pid, which is read and never judged: whether PostgreSQL lives only a connection can tell. */
export async function readPostmaster(cluster: string): Promise<{ pid: number; socket: string } | null> {
  const lines = (await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
  const pid = Number(lines[0])
  const socket = lines[4]
  return Number.isInteger(pid) && pid > 0 && socket ? { pid, socket } : null
}

/** Keeps the log and the one before it below the limit; PostgreSQL appends, so that it can be cut under its hands. */
export async function turnLog(log_file: string): Promise<void> {
  const size = await stat(log_file).then(
    (found) => found.size,
    () => 0,
  )
  if (size <= LOG_BYTES_MAX) return
  await copyFile(log_file, `${log_file}.1`)
  await truncate(log_file)
}

function kill(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}
