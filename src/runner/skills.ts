/**
 * The skills that a run names, found in its repositories: `SKILL.md` without its front matter, as instructions.
 *
 * A name is looked for in each repository in their order, there in the known folders in theirs; the first that is
 * found counts. Nothing is read that lies outside of the repository, whatever a link in it says.
 */
import { lstat, open, readdir, readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { ownerAndName, parseSkillSpec, SKILL_FOLDERS, type SkillPlace } from '../contract/index.ts'
import { parseSkillFile, SKILL_BYTES_MAX } from '../contract/skill-files.ts'
import { SetupFailure } from './failures.ts'

/** Folders of a place that are looked at for repositories, and skills that a refusal lists. */
const REPOSITORIES_MAX = 50
const NAMED_MAX = 10

export type SkillsOptions = {
  specs: string[]
  /** The run's own repositories, below `workspace`. None: what lies in `cwd`. */
  repositories: { url: string; directory: string }[]
  workspace: string
  /** Where the harness works. */
  cwd: string
  /** Folders like homes, in their order: what came with the run, and of a person who started it by hand their own. */
  homes: string[]
}

export type Skill = { name: string; file: string; folder: string; instructions: string }

type Place = { root: string; org: string; repo: string; names: string[] }

/** In the order of the request. Throws `SetupFailure` for the first that is not found or cannot be read. */
export async function findSkills(options: SkillsOptions): Promise<Skill[]> {
  const { repositories, workspace, cwd } = options
  const places =
    repositories.length > 0
      ? repositories.map(({ url, directory }) => placeOf(join(workspace, directory), url))
      : await discover(cwd)
  const skills: Skill[] = []
  for (const spec of options.specs) skills.push(await findSkill(spec, places, options))
  return skills
}

/** What is put before the prompt. */
export function renderSkills(skills: Skill[]): string {
  return skills
    .map(
      ({ name, folder, instructions }) => `Follow the skill "${name}"; its files lie in ${folder}.\n\n${instructions}`,
    )
    .join('\n\n')
}

async function findSkill(spec: string, places: Place[], { cwd, homes }: SkillsOptions): Promise<Skill> {
  const wanted = parseSkillSpec(spec)
  if (wanted === null) throw missing(`"${spec}" does not name a skill.`)
  const here = places.filter((place) => fits(place, wanted))
  if (here.length === 0) throw missing(noPlace(spec, places))
  const found = 'path' in wanted ? await byPath(wanted.path, here) : await byName(wanted.name, here)
  const own = found ?? ('name' in wanted && wanted.repo === null ? await byName(wanted.name, homes.map(homeOf)) : null)
  if (own === null) throw missing(await notFound(spec, wanted, here))
  const { file, root } = own
  const { name, body } = await readSkill(file, root)
  const folder = dirname(file)
  const shown = relative(cwd, folder)
  return {
    name: name ?? basename(folder),
    file: relative(cwd, file),
    folder: shown === '' ? '.' : shown.startsWith('..') ? folder : shown,
    instructions: body,
  }
}

type Found = { file: string; root: string }

async function byPath(path: string, places: Place[]): Promise<Found | null> {
  for (const { root } of places) {
    const file = join(root, ...path.split('/'), ...(path.endsWith('.md') ? [] : ['SKILL.md']))
    if (await isThere(file)) return { file, root }
  }
  return null
}

/** By the name of its folder, else by the name in its front matter. */
async function byName(name: string, places: Place[]): Promise<Found | null> {
  for (const { root } of places) {
    for (const folder of SKILL_FOLDERS) {
      const file = join(root, folder, name, 'SKILL.md')
      if (await isThere(file)) return { file, root }
    }
  }
  for (const { file, root } of await allSkills(places)) {
    const said = await readSkill(file, root).catch(() => null)
    if (said?.name === name) return { file, root }
  }
  return null
}

async function allSkills(places: Place[]): Promise<Found[]> {
  const found: Found[] = []
  for (const { root } of places) {
    for (const folder of SKILL_FOLDERS) {
      const names = await readdir(join(root, folder)).catch(() => [])
      for (const name of names.sort()) {
        const file = join(root, folder, name, 'SKILL.md')
        if (await isThere(file)) found.push({ file, root })
      }
    }
  }
  return found
}

async function readSkill(file: string, root: string): Promise<{ name: string | null; body: string }> {
  const shown = relative(root, file)
  const [real, real_root] = await Promise.all([realpath(file), realpath(root)])
  if (!real.startsWith(real_root + sep)) throw malformed(shown, 'it is a link that leads out of its repository')
  // One byte more than is allowed tells it from what is.
  const skill = await parseSkillFile(await readFirst(real, SKILL_BYTES_MAX + 1))
  if ('problem' in skill) throw malformed(shown, skill.problem)
  return { name: skill.name, body: skill.instructions }
}

async function readFirst(path: string, bytes_max: number): Promise<Buffer> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(Math.max(1, Math.min(size, bytes_max))) })
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    (there) => !there.isDirectory(),
    () => false,
  )

function fits({ org, names }: Place, wanted: SkillPlace): boolean {
  if (wanted.repo === null) return true
  const is = (a: string, b: string) => a.toLowerCase() === b.toLowerCase()
  return names.some((name) => is(name, wanted.repo ?? '')) && (wanted.org === null || is(org, wanted.org))
}

function placeOf(root: string, url: string): Place {
  const { owner, name } = ownerAndName(url)
  const repo = name || basename(root)
  return { root, org: owner, repo, names: [repo, basename(root)] }
}

const homeOf = (home: string): Place => ({ root: home, org: '', repo: 'the home folder', names: [] })

/** The folder itself, and the repositories in it. */
async function discover(cwd: string): Promise<Place[]> {
  const inside = (await readdir(cwd, { withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => join(cwd, entry.name))
    .sort()
    .slice(0, REPOSITORIES_MAX)
  const repositories: Place[] = []
  for (const root of inside) {
    const is_repository = await lstat(join(root, '.git')).then(Boolean, () => false)
    if (is_repository) repositories.push(placeOf(root, await originOf(root)))
  }
  return [placeOf(cwd, await originOf(cwd)), ...repositories]
}

async function originOf(root: string): Promise<string> {
  const config = await readFile(join(root, '.git', 'config'), 'utf8').catch(() => '')
  const [, url] = /^\[remote "origin"\][^[]*?^\s*url\s*=\s*(\S+)\s*$/m.exec(config) ?? []
  return url ?? root
}

function noPlace(spec: string, places: Place[]): string {
  const [where] = spec.split(':')
  return `Skill "${spec}" was not found: ${where} is none of the run's repositories (${listOf(places.map(shownAs))}).`
}

async function notFound(spec: string, wanted: SkillPlace, places: Place[]): Promise<string> {
  const where = listOf(places.map(shownAs))
  const what =
    'path' in wanted
      ? `there is no ${wanted.path}${wanted.path.endsWith('.md') ? '' : '/SKILL.md'} in ${where}`
      : `${where} has no ${wanted.name}/SKILL.md in ${SKILL_FOLDERS.join(', ')}`
  const others = [...new Set((await allSkills(places)).map(({ file }) => basename(dirname(file))))]
  return `Skill "${spec}" was not found: ${what}. ${others.length === 0 ? 'No skills are there.' : `There are: ${listOf(others)}.`}`
}

const shownAs = ({ org, repo }: Place): string => (org === '' ? repo : `${org}/${repo}`)
const listOf = (names: string[]): string =>
  names.slice(0, NAMED_MAX).join(', ') + (names.length > NAMED_MAX ? ' and others' : '')

const missing = (message: string) => new SetupFailure(message, 'skill_not_found', false, 'resource_not_found')
const malformed = (shown: string, why: string) =>
  new SetupFailure(`The skill ${shown} cannot be used: ${why}. Correct the file, then retry.`, 'skill_malformed')
