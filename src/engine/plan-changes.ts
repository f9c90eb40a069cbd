/** What a proposal may ask for, and how one version differs from another. */
import type { Kysely, Selectable } from 'kysely'
import { Fault, type Proposal } from '../contract/index.ts'
import type { Tables } from '../db/connect.ts'
import type { Plans } from '../db/tables.ts'

/** Refuses what could not be carried out, before a person is asked for it. */
export async function checkProposal(_write: Kysely<Tables>, _team_id: string, proposal: Proposal): Promise<void> {
  const { auth, where, environment } = proposal.config
  if (auth !== undefined && auth !== 'inherit') {
    throw wrong('/config/auth', `There is no secret ${JSON.stringify(auth)}; use "inherit", the parent's own access.`)
  }
  if (where === 'sandbox' && (environment !== undefined || proposal.children.some((child) => child.environment))) {
    throw wrong('/config/where', "Children in the parent's sandbox work in its environment; leave theirs out.")
  }
}

const wrong = (pointer: string, detail: string) =>
  new Fault('invalid_request', detail, { errors: [{ pointer, detail }] })

type Version = Pick<Selectable<Plans>, 'title' | 'document' | 'children' | 'config'>

/** Places in which two versions differ, as pointers, each with both values in few words. */
export function differences(was: Version, is: Version): { pointer: string; detail: string }[] {
  const found: { pointer: string; detail: string }[] = []
  compare('', plain(was), plain(is), found)
  return found.slice(0, DIFFERENCES_MAX)
}

const DIFFERENCES_MAX = 100
const WORDS = 120

const plain = ({ title, document, children, config }: Version): unknown => ({ title, document, children, config })

function compare(pointer: string, was: unknown, is: unknown, found: { pointer: string; detail: string }[]): void {
  if (JSON.stringify(was) === JSON.stringify(is)) return
  if (isTree(was) && isTree(is)) {
    for (const key of new Set([...Object.keys(was), ...Object.keys(is)])) {
      compare(`${pointer}/${key}`, Reflect.get(was, key), Reflect.get(is, key), found)
    }
    return
  }
  found.push({ pointer, detail: `was ${inWords(was)}, is ${inWords(is)}` })
}

const isTree = (value: unknown): value is object => typeof value === 'object' && value !== null

function inWords(value: unknown): string {
  if (value === undefined) return 'absent'
  const text = JSON.stringify(value)
  return text.length <= WORDS ? text : `${text.slice(0, WORDS - 1)}…`
}
