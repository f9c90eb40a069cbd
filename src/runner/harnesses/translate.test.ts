import { expect, test } from 'vitest'
import type { EntryBody } from '../../contract/index.ts'
import { translator } from './translate.ts'

function entriesOf(updates: object[]): EntryBody[] {
  const entries: EntryBody[] = []
  const translate = translator({ entry: (body) => entries.push(body), delta: () => {}, usage: () => {} })
  for (const update of updates) translate.update(update)
  translate.flush()
  return entries
}

/** As Codex says it through its adapter 2.6. */
test("what a tool of an MCP server answered Codex is in the call's result", () => {
  const input = { server: 'baton', tool: 'wait_for_events', arguments: {} }
  const result = { content: [{ type: 'text', text: 'Message from agent "a"' }], structuredContent: {}, _meta: null }
  const call = { toolCallId: 'c', kind: 'execute', title: 'mcp.baton.wait_for_events', status: 'in_progress' }
  expect(
    entriesOf([
      { sessionUpdate: 'tool_call', ...call, rawInput: input, _meta: { is_mcp_tool_call: true } },
      {
        sessionUpdate: 'tool_call_update',
        toolCallId: 'c',
        status: 'completed',
        rawOutput: { result, error: null },
      },
    ]),
  ).toEqual([
    expect.objectContaining({ kind: 'tool_call', name: 'mcp.baton.wait_for_events', category: 'integration', input }),
    { kind: 'tool_result', call_id: 'c', status: 'completed', output: 'Message from agent "a"' },
  ])
})

/** As Gemini CLI 0.61 says it. */
test("the name and the input of a tool of an MCP server are read from Gemini's title and content", () => {
  const call = { toolCallId: 'g', title: 'run_agents (baton MCP Server)', locations: [], kind: 'other' }
  const content = (text: string) => [{ type: 'content', content: { type: 'text', text } }]
  expect(
    entriesOf([
      { sessionUpdate: 'tool_call', ...call, status: 'in_progress', content: content('{"agents":[1]}') },
      { sessionUpdate: 'tool_call_update', ...call, status: 'completed', content: content('- a: started') },
    ]),
  ).toEqual([
    expect.objectContaining({ name: 'mcp_baton_run_agents', category: 'integration', input: { agents: [1] } }),
    { kind: 'tool_result', call_id: 'g', status: 'completed', output: '- a: started' },
  ])
})
