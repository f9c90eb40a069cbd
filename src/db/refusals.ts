/**
 * Why the database cannot be opened or moved, as errors whose message is a sentence for the person who started Baton.
 * Anything else that this room throws is a bug or PostgreSQL's own error (see `isUnavailable`).
 */
export type DatabaseRefusalReason =
  | 'no_binaries'
  | 'folder_not_usable'
  | 'disk_full'
  | 'start_failed'
  | 'older_postgres'
  | 'newer_postgres'
  | 'old_server'
  | 'newer_schema'
  | 'changed_migration'
  | 'transfer_refused'

export class DatabaseRefused extends Error {
  override readonly name = 'DatabaseRefused'
  readonly reason: DatabaseRefusalReason

  constructor(reason: DatabaseRefusalReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

/** Another living process works on the same folder. */
export class DataFolderInUse extends Error {
  override readonly name = 'DataFolderInUse'
  readonly data_dir: string
  readonly owner: Owner | null

  constructor(data_dir: string, owner: Owner | null) {
    const who = owner === null ? 'another Baton' : `another Baton (process ${owner.pid})`
    const where = owner?.url == null ? '' : ` It answers at ${owner.url}.`
    super(
      `The data folder ${data_dir} is in use by ${who}.${where} Use that one, stop it, or choose another folder with --data-dir.`,
    )
    this.data_dir = data_dir
    this.owner = owner
  }
}

/** Who opened the folder, as far as he told. `url` is there once his server listens. */
export type Owner = { pid: number; url: string | null }
