/** What is below a run: its tree as a table, what the whole of it is worth, and the way to stop it. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { OctagonX } from 'lucide-react'
import { useState } from 'react'
import { isEnded, type Run, type Tree } from '../../contract/index.ts'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { keys } from '../data/queries.ts'
import { countStatuses } from '../data/tree.ts'
import { countWords, dollarWords } from '../words.ts'
import { Artifacts } from './artifacts.tsx'
import { Confirm } from './confirm.tsx'
import { Empty, Refused, sentenceOf, Waiting } from './faces.tsx'
import { TreeGrid } from './tree-grid.tsx'

export function SubAgents({ run }: { run: Run }) {
  const { queries } = useAsking()
  const tree = useQuery(queries.tree(run.run_id))
  if (tree.isPending) return <Waiting>Loading the tree…</Waiting>
  if (!tree.data)
    return <Refused title="The tree could not be read" error={tree.error} onRetry={() => void tree.refetch()} />
  if (tree.data.nodes.length <= 1)
    return <Empty title="No sub-agents">This run has started no other runs. Those that it starts show up here.</Empty>
  return (
    <section aria-label="Sub-agents" className="flex min-h-0 flex-1 flex-col gap-3">
      {tree.isRefetchError && (
        <p role="alert" className="text-sm text-failed">
          The tree could not be renewed. {sentenceOf(tree.error)}
        </p>
      )}
      <Totals tree={tree.data} run={run} />
      <TreeGrid top={run.run_id} nodes={tree.data.nodes} />
    </section>
  )
}

function Totals({ tree, run }: { tree: Tree; run: Run }) {
  const { usage } = tree
  const cost = usage.inference_cost_usd ?? 0
  return (
    <div className="flex shrink-0 flex-col gap-2">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <div className="min-w-0 flex-1 basis-56">
          <p className="font-medium">
            {tree.done ? `All ${tree.nodes.length} runs are done` : `${tree.nodes.length} runs, still at work`}
          </p>
          <p className="text-sm text-soft">{countWords(countStatuses(tree.nodes))}</p>
        </div>
        <CancelTree tree={tree} run={run} />
      </div>
      <dl className="flex flex-wrap gap-x-6 gap-y-1 text-sm">
        <Total name="Tokens">{(usage.total_tokens ?? 0).toLocaleString()}</Total>
        <Total name="Input">{(usage.input_tokens ?? 0).toLocaleString()}</Total>
        <Total name="Output">{(usage.output_tokens ?? 0).toLocaleString()}</Total>
        <Total name="Cost">{cost > 0 ? dollarWords(cost) : 'not stated'}</Total>
        <Total name="Messages">{tree.messages.toLocaleString()}</Total>
        <Total name="Artifacts">{tree.artifacts.length.toLocaleString()}</Total>
      </dl>
      <TreeArtifacts tree={tree} />
      <Limits tree={tree} />
    </div>
  )
}

function Total({ name, children }: { name: string; children: string }) {
  return (
    <div className="flex gap-1.5">
      <dt className="text-soft">{name}</dt>
      <dd className="font-medium tabular-nums">{children}</dd>
    </div>
  )
}

function TreeArtifacts({ tree }: { tree: Tree }) {
  if (tree.artifacts.length === 0) return null
  const names = new Map(tree.nodes.map((node) => [node.run_id, node.name]))
  const shown = tree.artifacts.map(({ artifact_type, artifact_uid, data, run_id }) => ({
    ...{ artifact_type, artifact_uid, data },
    by: names.get(run_id),
  }))
  return <Artifacts artifacts={shown} />
}

function Limits({ tree }: { tree: Tree }) {
  const { limits } = tree
  const count = (value: number) => value.toLocaleString()
  const rows: [string, string][] = [
    ['Levels below the top', count(limits.max_depth)],
    ['Children of one run', count(limits.max_children)],
    ['Runs of the tree', count(limits.max_tree_runs)],
    ['Messages of the tree', `${count(tree.messages)} of ${count(limits.max_tree_messages)}`],
    ['Runs woken in the tree', `${count(tree.wakes)} of ${count(limits.max_tree_wakes)}`],
    ['Messages that cause each other', count(limits.max_hops)],
    ['Tokens of the tree', limits.max_tree_tokens === null ? 'no limit' : count(limits.max_tree_tokens)],
  ]
  return (
    <details className="text-sm">
      <summary className="min-h-7 w-fit text-soft pointer-coarse:min-h-10">Limits of this tree</summary>
      <dl className="grid max-w-md grid-cols-[1fr_auto] gap-x-6 gap-y-0.5 py-1">
        {rows.map(([name, value]) => (
          <div key={name} className="contents">
            <dt className="text-soft">{name}</dt>
            <dd className="text-right tabular-nums">{value}</dd>
          </div>
        ))}
      </dl>
    </details>
  )
}

function CancelTree({ tree, run }: { tree: Tree; run: Run }) {
  const { client } = useAsking()
  const held = useQueryClient()
  const may = useMay()
  const [asking, setAsking] = useState(false)
  const cancel = useMutation({
    mutationFn: () => client.runs.cancel({ params: { run_id: run.run_id }, body: { cascade: true } }),
    onSettled: () =>
      Promise.all([
        held.invalidateQueries({ queryKey: keys.trees }),
        held.invalidateQueries({ queryKey: keys.run(run.run_id) }),
      ]),
  })
  const count = tree.nodes.filter((node) => !isEnded(node.state)).length
  if (count === 0 || !may) return null
  const runs = count === 1 ? '1 run' : `${count} runs`
  return (
    <div className="flex flex-col items-end gap-1">
      <button
        type="button"
        className="button button-danger"
        disabled={cancel.isPending}
        onClick={() => setAsking(true)}
      >
        <OctagonX aria-hidden className="size-4" />
        {cancel.isPending ? 'Cancelling…' : `Cancel the tree (${runs})`}
      </button>
      {cancel.error && (
        <p role="alert" className="max-w-sm text-right text-sm text-failed">
          {sentenceOf(cancel.error)}
        </p>
      )}
      <Confirm
        open={asking}
        title={`Cancel ${runs}?`}
        yes={`Cancel ${runs}`}
        no={count === 1 ? 'Keep it running' : 'Keep them running'}
        onClose={() => setAsking(false)}
        onYes={() => {
          setAsking(false)
          cancel.mutate()
        }}
      >
        {isEnded(run.state) ? 'Everything below this run' : 'This run and everything below it'} that has not ended is
        stopped at once. The transcripts stay.
      </Confirm>
    </div>
  )
}
