/** A tree of runs as a person reads it: one run a line, children indented below their parent, in the order of birth. */
import { z } from 'zod'
import { isEnded, type Tree, type TreeNode } from '../contract/index.ts'
import { paint } from './output.ts'
import { paintState } from './states.ts'
import { alignColumns, duration, oneLine, plural, truncate } from './text.ts'

/** The state alone; a run whose turn has ended and that listens for events is said to wait. */
export const stateWord = (node: TreeNode): string =>
  node.waiting && node.state === 'INPROGRESS' ? paint.cyan('WAITING') : paintState(node.state)

export function tookIn(node: TreeNode, now: number): string {
  if (node.started_at === null) return ''
  const end = node.ended_at === null ? now : Date.parse(node.ended_at)
  return duration(end - Date.parse(node.started_at))
}

const tokensOf = (count: number): string =>
  count < 10_000 ? (count === 0 ? '' : String(count)) : `${(count / 1000).toFixed(count < 100_000 ? 1 : 0)}k`

/** Each node with the drawing that stands before its name. */
export function drawnNodes(nodes: TreeNode[]): { node: TreeNode; drawing: string }[] {
  const known = new Set(nodes.map((node) => node.run_id))
  const below = new Map<string | null, TreeNode[]>()
  for (const node of nodes) {
    const parent = node.parent_run_id !== null && known.has(node.parent_run_id) ? node.parent_run_id : null
    below.set(parent, [...(below.get(parent) ?? []), node])
  }
  const drawn: { node: TreeNode; drawing: string }[] = []
  const draw = (siblings: TreeNode[], indent: string, top: boolean): void => {
    siblings.forEach((node, at) => {
      const last = at === siblings.length - 1
      drawn.push({ node, drawing: top ? '' : `${indent}${last ? '└─ ' : '├─ '}` })
      draw(below.get(node.run_id) ?? [], top ? '' : `${indent}${last ? '   ' : '│  '}`, false)
    })
  }
  draw(below.get(null) ?? [], '', true)
  return drawn
}

export type TreeLook = {
  now: number
  width?: number | undefined
  /** At most so many runs; what is left out is counted. */
  nodes_max?: number
  /** Ids, where one is to go on with them. */
  ids?: boolean
}

const LAST_WORDS_COLUMNS = 60

export function treeLines(tree: Tree, look: TreeLook): string[] {
  const drawn = drawnNodes(tree.nodes)
  const shown = drawn.slice(0, look.nodes_max ?? drawn.length)
  const rows = shown.map(({ node, drawing }) => [
    `${paint.dim(drawing)}${oneLine(node.name || node.title || 'Untitled')}`,
    stateWord(node),
    oneLine(node.harness),
    tookIn(node, look.now),
    tokensOf(node.total_tokens),
    ...(look.ids === true ? [node.run_id] : []),
    wordsOf(node),
  ])
  const heads = ['RUN', 'STATE', 'HARNESS', 'TOOK', 'TOKENS', ...(look.ids === true ? ['ID'] : []), 'LAST WORDS']
  const left_out = drawn.length - shown.length
  return [
    ...alignColumns([heads.map(paint.dim), ...rows], look.width),
    ...(left_out > 0 ? [paint.dim(`… and ${plural(left_out, 'run')} more`)] : []),
    sumLine(tree),
    ...stopLines(tree),
  ]
}

function wordsOf(node: TreeNode): string {
  const mail = node.undelivered > 0 ? paint.yellow(`${plural(node.undelivered, 'message')} to be delivered `) : ''
  return mail + paint.dim(truncate(oneLine(node.last_words ?? ''), LAST_WORDS_COLUMNS))
}

const ORDER = ['INPROGRESS', 'BLOCKED', 'CLAIMED', 'PENDING', 'QUEUED', 'SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED']

/** How the whole stands. */
export function sumLine(tree: Tree): string {
  const counts = ORDER.filter((state) => tree.counts[state]).map(
    (state) => `${tree.counts[state]} ${state.toLowerCase().replace('inprogress', 'in progress')}`,
  )
  const tokens = tree.usage.total_tokens ?? 0
  const parts = [
    `${plural(tree.nodes.length, 'run')}: ${counts.join(', ')}`,
    tokens > 0 ? `${tokens} tokens` : '',
    tree.messages > 0 ? plural(tree.messages, 'message') : '',
    tree.artifacts.length > 0 ? plural(tree.artifacts.length, 'artifact') : '',
    tree.done ? 'done' : '',
  ]
  return paint.dim(parts.filter((part) => part !== '').join(' · '))
}

function stopLines(tree: Tree): string[] {
  if (tree.stopped === null) return []
  return [
    `${paint.yellow('Stopped')} ${tree.stopped.at}: ${oneLine(tree.stopped.message)}`,
    `Let it go on with: baton run release ${tree.root_run_id}`,
  ]
}

export function artifactLines(tree: Tree): string[] {
  const names = new Map(tree.nodes.map((node) => [node.run_id, node.name]))
  return tree.artifacts.map(({ run_id, artifact_uid, artifact_type, data }) => {
    const { url, title, filename } = ArtifactFace.parse(data)
    const face = url ?? `${filename ?? title ?? ''}  ${artifact_uid}`
    return `${artifact_type}  ${oneLine(face)}${paint.dim(`  by ${oneLine(names.get(run_id) ?? run_id)}`)}`
  })
}

/** What people know it by; the uid too, where nothing else leads to it. */
const ArtifactFace = z
  .object({ url: z.string().optional(), title: z.string().optional(), filename: z.string().optional() })
  .catch({})

/** Runs of the tree that a cancellation would end. */
export const livingNodes = (tree: Tree): TreeNode[] => tree.nodes.filter((node) => !isEnded(node.state))
