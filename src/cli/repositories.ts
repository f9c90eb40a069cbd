/** Repositories as they are written on the command line. */
import { resolve } from 'node:path'
import { addressKind, type Repository } from '../contract/index.ts'
import { CommandFailure } from './exits.ts'

/** One that runs are to have: what no runner would fetch is refused. */
export function repositoryOf(cwd: string, given: string): Repository {
  const repository = namedRepository(cwd, given)
  if (addressKind(repository.url) !== null) return repository
  throw new CommandFailure(
    'usage',
    `"${given}" is no repository.`,
    'Write it as OWNER/REPO, as a path such as ./app, or as an address with https or ssh.',
  )
}

/** `OWNER/REPO` is on github.com; a path becomes absolute, since the worker stands elsewhere; `#ref` picks a state. */
export function namedRepository(cwd: string, given: string): Repository {
  const [, where = given, ref] = /^(.*?)(?:#([^#]+))?$/.exec(given) ?? []
  return { url: urlOf(cwd, where), ...(ref === undefined ? {} : { ref }) }
}

function urlOf(cwd: string, where: string): string {
  if (/^\.{0,2}(\/|$)/.test(where)) return resolve(cwd, where)
  return /^[\w-]+\/[\w.-]+$/.test(where) ? `https://github.com/${where.replace(/\.git$/, '')}.git` : where
}

/** Whether both are the same repository, whatever state of it. */
export const isSameRepository = (a: Repository, b: Repository): boolean => plain(a.url) === plain(b.url)

const plain = (url: string): string => url.replace(/\/+$/, '').replace(/\.git$/, '')
