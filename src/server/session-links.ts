/** Links to sessions: the page of their run, at an address whose last segment is the session, as clients of Oz read it. */

export const SESSION_PATH = '/runs/:run_id/sessions/:session_id'

export const sessionPath = (run_id: string, session_id: string): string =>
  `/runs/${run_id}/sessions/${encodeURIComponent(session_id)}`
