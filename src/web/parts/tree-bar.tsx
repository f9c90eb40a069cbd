/**
 * The way around a tree: a breadcrumb to whoever is above, and a bar of pills with the orchestrator at its left and a
 * pill for each of its children. It stays as it is while the run below it changes, so that the focus does too.
 */
import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { ChevronRight } from 'lucide-react'
import { useEffect, useMemo, useRef } from 'react'
import type { TreeNode } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { ancestorsOf, childrenOf, countStatuses, indexTree, pillOrder, type TreeIndex } from '../data/tree.ts'
import { countWords, nodeStatus, STATUS_WORDS, type Status } from '../words.ts'
import { useAnnounce } from './announce.tsx'
import { sentenceOf } from './faces.tsx'
import { Pills } from './pills.tsx'

export function TreeBar({ root_run_id, run_id }: { root_run_id: string; run_id: string }) {
  const { queries } = useAsking()
  const tree = useQuery(queries.tree(root_run_id))
  const index = useMemo(() => tree.data && indexTree(tree.data.nodes), [tree.data])
  const self = index?.byId.get(run_id)
  if (tree.isError && !index)
    return (
      <p role="alert" className="py-1 text-sm">
        <span className="text-failed">The tree of this run could not be read. {sentenceOf(tree.error)}</span>{' '}
        <button type="button" className="link min-h-6" onClick={() => void tree.refetch()}>
          Try again
        </button>
      </p>
    )
  if (!index || !self) return <div className="h-8" />
  return <Around index={index} self={self} />
}

function Around({ index, self }: { index: TreeIndex; self: TreeNode }) {
  const path = ancestorsOf(index, self.run_id)
  const parent = path.at(-1)
  const anchor = childrenOf(index, self.run_id).length > 0 || !parent ? self : parent
  const children = childrenOf(index, anchor.run_id)
  useAnnounced(children)
  return (
    <div className="mb-2 flex min-w-0 flex-col gap-1.5 border-b border-line pb-2">
      {parent && <Breadcrumb path={path} self={self} />}
      {children.length > 0 && (
        <>
          <Pills anchor={anchor} pills={pillOrder(children)} current={self.run_id} />
          <p className="text-sm text-soft">
            {children.length === 1 ? '1 child' : `${children.length} children`}: {countWords(countStatuses(children))}
          </p>
        </>
      )}
    </div>
  )
}

function Breadcrumb({ path, self }: { path: TreeNode[]; self: TreeNode }) {
  return (
    <nav aria-label="Above this run">
      <ol className="flex flex-wrap items-center gap-x-1 text-sm">
        {path.map((node, at) => (
          <li key={node.run_id} className="flex min-w-0 items-center gap-1">
            <Link
              to="/runs/$runId"
              params={{ runId: node.run_id }}
              title={`${node.name}: ${at === path.length - 1 ? 'the parent' : at === 0 ? 'the top of the tree' : 'further up'}`}
              className="inline-flex min-h-7 max-w-40 items-center pointer-coarse:min-h-10"
            >
              <span className="link truncate">{node.name}</span>
            </Link>
            <ChevronRight aria-hidden className="size-3.5 shrink-0 text-soft" />
          </li>
        ))}
        <li aria-current="page" className="max-w-48 truncate font-medium">
          {self.name}
        </li>
      </ol>
    </nav>
  )
}

const TOLD: ReadonlySet<Status> = new Set(['needs_you', 'failed', 'succeeded'])

/** Tells when a child wants somebody, or has ended. */
function useAnnounced(children: TreeNode[]): void {
  const announce = useAnnounce()
  const known = useRef(new Map<string, Status>())
  useEffect(() => {
    const said = children.flatMap((child) => {
      const before = known.current.get(child.run_id)
      const now = nodeStatus(child)
      known.current.set(child.run_id, now)
      return before !== undefined && before !== now && TOLD.has(now)
        ? [`${child.name}: ${STATUS_WORDS[now].toLowerCase()}`]
        : []
    })
    if (said.length > 0) announce(`${said.slice(0, 3).join(', ')}${said.length > 3 ? ' and others' : ''}.`)
  }, [children, announce])
}
