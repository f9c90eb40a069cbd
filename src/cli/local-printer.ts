/** What a run says that is worked on in this process: text for people, one public object a line for programs. */
import type { EntryBody, NewEntry } from '../contract/index.ts'
import { entryLines } from './entries.ts'
import type { Output } from './output.ts'

export function localPrinter(out: Output): { entry(entry: NewEntry): void; done(): Promise<void> } {
  let written = Promise.resolve()
  return {
    entry(entry) {
      written = written.then(async () => {
        const lines = () => entryLines(entry)
        const records = recordsOf(entry.body)
        if (!out.machine) for (const line of lines()) out.line(line)
        else for (const record of records) await out.record(record, lines)
      })
    },
    done: () => written,
  }
}

/** The types of the public Oz command line; what it has no word for is a `system` record. */
function recordsOf(body: EntryBody): Record<string, unknown>[] {
  switch (body.kind) {
    case 'prompt':
      return []
    case 'text':
      return [{ type: 'agent', text: body.text }]
    case 'thought':
      return [{ type: 'agent_reasoning', text: body.text }]
    case 'tool_call':
      return [{ type: 'tool_call', ...toolOf(body) }]
    case 'tool_result':
      if (body.status === 'denied') return [{ type: 'tool_canceled', call_id: body.call_id }]
      if (body.status === 'failed') return [{ type: 'tool_error', call_id: body.call_id, error: body.output }]
      return [
        {
          type: 'tool_result',
          call_id: body.call_id,
          output: body.output,
          ...(body.exit_code === undefined ? {} : { status: 'complete', exit_code: body.exit_code }),
          ...(body.changes === undefined ? {} : { changes: body.changes }),
        },
      ]
    case 'plan':
      return [
        { type: 'update_todos', todo_list: body.items.map((item) => ({ title: item.content, description: '' })) },
        {
          type: 'complete_todos',
          completed_todos: body.items
            .filter((item) => item.status === 'completed')
            .map((item) => ({ title: item.content, description: '' })),
        },
      ]
    case 'output':
      return [{ type: 'output', stream: body.stream, text: body.text }]
    case 'system':
      return [{ type: 'system', event_type: body.name, level: body.level, text: body.text }]
    case 'gap':
      return [
        {
          type: 'system',
          event_type: 'gap',
          level: 'warning',
          text: `${body.bytes} bytes could not be kept: ${body.reason}`,
        },
      ]
    case 'unknown':
      return [{ type: 'unknown', raw: body.raw }]
  }
}

function toolOf(body: Extract<EntryBody, { kind: 'tool_call' }>): Record<string, unknown> {
  const shared = { call_id: body.call_id, title: body.title }
  switch (body.category) {
    case 'command':
      return { tool: 'run_command', command: body.title, ...shared }
    case 'search':
      return { tool: 'grep', input: body.input, ...shared }
    case 'files':
    case 'integration':
    case 'documents':
    case 'computer':
    case 'review':
    case 'skill':
      return {
        tool: body.name,
        input: body.input,
        ...(body.paths === undefined ? {} : { file_paths: body.paths }),
        ...shared,
      }
  }
}
