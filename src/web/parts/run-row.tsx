import { Link } from '@tanstack/react-router'
import type { Run } from '../../contract/index.ts'
import { harnessOf } from '../../contract/index.ts'
import { harnessWord, sourceWord } from '../words.ts'
import { When, Worked } from './clock.tsx'
import { RunStatus } from './status.tsx'

export function RunRow({ run }: { run: Run }) {
  return (
    <li>
      <Link
        to="/runs/$runId"
        params={{ runId: run.run_id }}
        data-run={run.run_id}
        className="-mx-3 grid grid-cols-[1fr_auto] items-center gap-x-4 gap-y-0.5 rounded-lg px-3 py-2.5 hover:bg-raised sm:grid-cols-[7.5rem_1fr_auto]"
      >
        <RunStatus run={run} />
        <span className="order-last col-span-2 min-w-0 sm:order-none sm:col-span-1">
          <span className="block truncate font-medium" title={run.title}>
            {run.title}
          </span>
          <span className="flex flex-wrap gap-x-1.5 text-sm text-soft">
            <span>{run.agent_config ? harnessWord(harnessOf(run.agent_config)) : 'Unknown harness'}</span>
            <Dot />
            <span>{sourceWord(run.source)}</span>
            {run.worker_host && (
              <>
                <Dot />
                <span className="max-w-48 truncate" title={`Worker ${run.worker_host}`}>
                  {run.worker_host}
                </span>
              </>
            )}
            {run.children.length > 0 && (
              <>
                <Dot />
                <span>{run.children.length === 1 ? '1 child' : `${run.children.length} children`}</span>
              </>
            )}
          </span>
        </span>
        <span className="flex flex-col items-end text-sm text-soft">
          <When at={run.created_at} />
          <Worked run={run} />
        </span>
      </Link>
    </li>
  )
}

const Dot = () => <span aria-hidden>·</span>
