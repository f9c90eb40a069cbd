/** Why a tree stands still, and the way to let it go on. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { OctagonPause } from 'lucide-react'
import { useState } from 'react'
import { useAsking } from '../data/context.tsx'
import { useMay } from '../data/may.ts'
import { keys } from '../data/queries.ts'
import { When } from './clock.tsx'
import { Confirm } from './confirm.tsx'
import { sentenceOf } from './faces.tsx'

export function TreeStopped({ root_run_id }: { root_run_id: string }) {
  const { client, queries } = useAsking()
  const held = useQueryClient()
  const tree = useQuery(queries.tree(root_run_id))
  const may = useMay()
  const [asking, setAsking] = useState(false)
  const release = useMutation({
    mutationFn: () => client.trees.release({ params: { run_id: root_run_id } }),
    onSettled: () =>
      Promise.all([
        held.invalidateQueries({ queryKey: keys.trees }),
        held.invalidateQueries({ queryKey: keys.run(root_run_id) }),
      ]),
  })
  const stopped = tree.data?.stopped
  if (!stopped) return null
  return (
    <section
      aria-label="Why the tree was stopped"
      className="mb-2 flex shrink-0 flex-wrap items-start gap-x-3 gap-y-2 rounded-xl border border-needs bg-needs-wash px-4 py-3"
    >
      <OctagonPause aria-hidden className="mt-1 size-4 shrink-0 text-needs" />
      <div className="min-w-0 flex-1 basis-64">
        <p className="font-medium">This tree was stopped and needs {may ? 'you' : 'a member of the team'}.</p>
        <p className="text-sm wrap-anywhere">
          {stopped.message} Its agents stand still until somebody releases it.{' '}
          <span className="text-soft">
            Stopped <When at={stopped.at} />.
          </span>
        </p>
        {release.error && (
          <p role="alert" className="mt-1 text-sm text-failed">
            {sentenceOf(release.error)}
          </p>
        )}
      </div>
      {may && (
        <button type="button" className="button" disabled={release.isPending} onClick={() => setAsking(true)}>
          {release.isPending ? 'Releasing…' : 'Release'}
        </button>
      )}
      <Confirm
        open={asking}
        title="Let this tree go on?"
        yes="Release the tree"
        no="Keep it stopped"
        onClose={() => setAsking(false)}
        onYes={() => {
          setAsking(false)
          release.mutate()
        }}
      >
        Its agents may send messages and start runs again, with fresh limits. If they went in circles, say so to the
        orchestrator in a message first, or cancel the tree.
      </Confirm>
    </section>
  )
}
