/** A tree of runs as the page looks at it: who is below whom, in which order, and what of it is shown. */
import type { TreeNode } from '../../contract/index.ts'
import { ATTENTION, nodeStatus, type Status } from '../words.ts'

export type TreeIndex = { byId: Map<string, TreeNode>; children: Map<string, TreeNode[]> }

export function indexTree(nodes: TreeNode[]): TreeIndex {
  const byId = new Map(nodes.map((node) => [node.run_id, node]))
  const children = new Map<string, TreeNode[]>()
  for (const node of nodes) {
    if (node.parent_run_id === null) continue
    const siblings = children.get(node.parent_run_id)
    if (siblings) siblings.push(node)
    else children.set(node.parent_run_id, [node])
  }
  return { byId, children }
}

export const childrenOf = (index: TreeIndex, run_id: string): TreeNode[] => index.children.get(run_id) ?? []

/** From the top down to its parent. */
export function ancestorsOf(index: TreeIndex, run_id: string): TreeNode[] {
  const path: TreeNode[] = []
  let at = index.byId.get(run_id)
  while (at && at.parent_run_id !== null) {
    at = index.byId.get(at.parent_run_id)
    if (at) path.unshift(at)
  }
  return path
}

const PILL_RANK: Record<Status, number> = {
  needs_you: 0,
  failed: 1,
  working: 2,
  starting: 2,
  queued: 2,
  waiting: 2,
  cancelled: 3,
  succeeded: 3,
}

/** Who needs somebody first, then what failed, what is at work, what is done; the order of birth breaks ties. */
export function pillOrder(siblings: TreeNode[]): TreeNode[] {
  return siblings
    .map((node, born) => ({ node, born, rank: PILL_RANK[nodeStatus(node)] }))
    .sort((a, b) => a.rank - b.rank || a.born - b.born)
    .map(({ node }) => node)
}

export function countStatuses(nodes: TreeNode[]): Partial<Record<Status, number>> {
  const counts: Partial<Record<Status, number>> = {}
  for (const node of nodes) {
    const status = nodeStatus(node)
    counts[status] = (counts[status] ?? 0) + 1
  }
  return counts
}

/** The one status that stands for many: that which asks for attention first. */
export const aggregateOf = (counts: Partial<Record<Status, number>>): Status | undefined =>
  ATTENTION.find((status) => (counts[status] ?? 0) > 0)

export type TreeRow = {
  node: TreeNode
  /** From 1. */
  level: number
  place: number
  siblings: number
  /** Undefined: nothing is below it. */
  open?: boolean
}

/** The rows of the tree table: what is below a closed row is left out. */
export function treeRows(index: TreeIndex, top: string, closed: ReadonlySet<string>): TreeRow[] {
  const rows: TreeRow[] = []
  const add = (node: TreeNode, level: number, place: number, siblings: number) => {
    const below = childrenOf(index, node.run_id)
    const open = !closed.has(node.run_id)
    rows.push({ node, level, place, siblings, ...(below.length === 0 ? {} : { open }) })
    if (open) for (const [at, child] of below.entries()) add(child, level + 1, at + 1, below.length)
  }
  const node = index.byId.get(top)
  if (node) add(node, 1, 1, 1)
  return rows
}

export const AVATAR_COLOURS = 6

/** The same letter and colour for the same name, everywhere. */
export function avatarOf(name: string): { letter: string; colour: number } {
  let hash = 5381
  for (const character of name) hash = (hash * 33 + (character.codePointAt(0) ?? 0)) >>> 0
  const letter = /[\p{L}\p{N}]/u.exec(name)?.[0] ?? '?'
  return { letter: letter.toUpperCase(), colour: hash % AVATAR_COLOURS }
}
