/** A run's metadata: what its maker said, over what its parent has, over what its trigger tells by itself. */
import { type CreateRun, Fault, METADATA_KEYS_MAX } from '../contract/index.ts'

type Asked = Pick<CreateRun, 'metadata' | 'trigger_url'>

export function metadataOf({ metadata = {}, trigger_url }: Asked, parent: Record<string, string> = {}) {
  const said = { ...parent, ...metadata }
  const count = Object.keys(said).length
  if (count > METADATA_KEYS_MAX) {
    throw new Fault(
      'invalid_request',
      `With what it takes from its parent the run has ${count} keys of metadata; ${METADATA_KEYS_MAX} is the most.`,
      { errors: [{ pointer: '/metadata', detail: `at most ${METADATA_KEYS_MAX} keys with the parent's` }] },
    )
  }
  const all = { ...ticketOf(trigger_url), ...said }
  return Object.keys(all).length > METADATA_KEYS_MAX ? said : all
}

const LINEAR = /^\/[^/]+\/issue\/([A-Za-z][A-Za-z0-9]*-\d+)(\/|$)/
const JIRA = /^\/(?:.+\/)?browse\/([A-Za-z][A-Za-z0-9_]*-\d+)\/?$/

/** Of the address of a ticket in Linear or Jira. */
function ticketOf(trigger_url: string | undefined): Record<string, string> {
  if (trigger_url === undefined) return {}
  const { hostname, pathname } = new URL(trigger_url)
  const linear = hostname === 'linear.app' ? LINEAR.exec(pathname)?.[1] : undefined
  if (linear !== undefined) return { ticket_id: linear.toUpperCase(), ticket_source: 'LINEAR' }
  const jira = JIRA.exec(pathname)?.[1]
  return jira === undefined ? {} : { ticket_id: jira.toUpperCase(), ticket_source: 'JIRA' }
}
