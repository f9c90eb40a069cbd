/** What one server lets a caller have. */
export type ServerLimits = {
  /** Wrong keys from one address in a minute before they are answered with 429. */
  wrong_keys_a_minute: number
  /** Open event streams of one team's people and programs, on one server. */
  streams_per_team: number
  /** Those of its runs: each has its runner's, and may have its agent's own. */
  run_streams_per_team: number
  /** Open worker sockets of one team, on one server. */
  sockets_per_team: number
  /** Bytes that wait for one stream's reader before it is put back to replay. */
  stream_bytes_max: number
  /** A reader that takes nothing for this long is cut off. */
  stream_stalled_ms: number
  stream_keep_alive_ms: number
  /** A stream ends after this, plus up to a fifth, so that its reader connects anew and proxies can rebalance. */
  stream_life_ms: number
  /** How soon a stream or a worker's socket ends whose key was revoked. */
  identify_again_ms: number
  /** A caller is not looked up again for this long. */
  identify_kept_ms: number
  /** Events kept in memory for streams that join or fall behind. */
  events_kept: number
  /** Further behind than this, a stream of ours is told to read afresh instead of being replayed. */
  replay_events_max: number
  /** The log and the followed transcripts are read at least this often, bell or not. */
  poll_ms: number
  /** Events that come together in this time are sent together; the more readers there are, the longer. */
  gather_ms: number
  /** From the first header byte to the last body byte. */
  request_ms: number
  close_ms: number
  worker_frame_bytes_max: number
  worker_ping_ms: number
  /** A worker that is silent for this long is gone. */
  worker_silent_ms: number
  /** A worker that rejected a run is left alone this long, unless it ends one before. */
  worker_full_ms: number
}

export const SERVER_LIMITS: ServerLimits = {
  wrong_keys_a_minute: 20,
  streams_per_team: 1_000,
  run_streams_per_team: 10_000,
  sockets_per_team: 1_000,
  stream_bytes_max: 128 * 1024,
  stream_stalled_ms: 30_000,
  stream_keep_alive_ms: 15_000,
  stream_life_ms: 10 * 60_000,
  identify_again_ms: 500,
  identify_kept_ms: 750,
  events_kept: 4_096,
  replay_events_max: 5_000,
  poll_ms: 500,
  gather_ms: 20,
  request_ms: 60_000,
  close_ms: 5_000,
  worker_frame_bytes_max: 1024 * 1024,
  worker_ping_ms: 30_000,
  worker_silent_ms: 60_000,
  worker_full_ms: 5_000,
}
