/**
 * What each harness says over ACP of its tools: updates as they come from Claude Code (adapter 0.100), Codex (adapter
 * 2.6), Gemini CLI (0.61), OpenCode (1) and Baton's own agent, with the category and name that each is to have. Every
 * category is here at least once.
 */
import type { EntryBody, ToolCategory } from '../../src/contract/index.ts'
import { translator } from '../../src/runner/harnesses/translate.ts'

type Update = Record<string, unknown>
type Recorded = { harness: string; category: ToolCategory; name: string; state: string; updates: Update[] }

const text = (words: string) => [{ type: 'content', content: { type: 'text', text: words } }]

/** A call, and its end. */
function call(more: Update, end: Update): Update[] {
  const toolCallId = `call-${JSON.stringify(more).length}-${String(more.title)}`
  return [
    { sessionUpdate: 'tool_call', toolCallId, status: 'pending', ...more },
    { sessionUpdate: 'tool_call_update', toolCallId, status: 'completed', ...end },
  ]
}

const claude = (toolName: string, more: Update, end: Update): Update[] =>
  call({ ...more, _meta: { claudeCode: { toolName } } }, { ...end, _meta: { claudeCode: { toolName } } })

export const RECORDED: Recorded[] = [
  {
    harness: 'claude',
    category: 'command',
    name: 'Bash',
    state: 'completed',
    updates: claude(
      'Bash',
      { title: '`npm test`', kind: 'execute', rawInput: { command: 'npm test', description: 'Run the tests' } },
      { content: text('```console\nok\n```'), rawOutput: 'ok' },
    ),
  },
  {
    harness: 'claude',
    category: 'files',
    name: 'Write',
    state: 'completed',
    updates: claude(
      'Write',
      {
        title: 'Write notes.txt',
        kind: 'edit',
        rawInput: { file_path: '/w/notes.txt', content: 'new' },
        locations: [{ path: '/w/notes.txt' }],
        content: [{ type: 'diff', path: '/w/notes.txt', oldText: null, newText: 'new' }],
      },
      {},
    ),
  },
  {
    harness: 'claude',
    category: 'skill',
    name: 'Skill',
    state: 'completed',
    updates: claude('Skill', { title: 'Load skill: release', kind: 'other', rawInput: { skill: 'release' } }, {}),
  },
  {
    harness: 'claude',
    category: 'search',
    name: 'WebSearch',
    state: 'failed',
    updates: claude(
      'WebSearch',
      { title: '"zod recursion"', kind: 'fetch', rawInput: { query: 'zod recursion' } },
      { status: 'failed', rawOutput: 'no network' },
    ),
  },
  {
    harness: 'claude',
    category: 'computer',
    name: 'mcp__playwright__browser_click',
    state: 'completed',
    updates: claude(
      'mcp__playwright__browser_click',
      { title: 'mcp__playwright__browser_click', kind: 'other', rawInput: { ref: 'e1' } },
      { rawOutput: [{ type: 'text', text: 'clicked' }] },
    ),
  },
  {
    harness: 'codex',
    category: 'command',
    name: 'execute',
    state: 'completed',
    updates: call(
      { title: 'ls -a', kind: 'execute', rawInput: { command: ['sh', '-c', 'ls -a'], cwd: '/w' } },
      { rawOutput: { formatted_output: 'a\n', exit_code: 0 } },
    ),
  },
  {
    harness: 'codex',
    category: 'integration',
    name: 'mcp.baton.wait_for_events',
    state: 'completed',
    updates: call(
      {
        title: 'mcp.baton.wait_for_events',
        kind: 'execute',
        rawInput: { server: 'baton', tool: 'wait_for_events', arguments: {} },
        _meta: { is_mcp_tool_call: true },
      },
      { rawOutput: { result: { content: [{ type: 'text', text: 'Nothing' }] }, error: null } },
    ),
  },
  {
    harness: 'codex',
    category: 'review',
    name: 'think',
    state: 'completed',
    updates: call(
      { title: 'Guardian Review', kind: 'think', rawInput: { action: { type: 'exec', command: 'rm -r build' } } },
      { content: text('Approved.') },
    ),
  },
  {
    harness: 'gemini',
    category: 'integration',
    name: 'mcp_baton_run_agents',
    state: 'completed',
    updates: call(
      { title: 'run_agents (baton MCP Server)', kind: 'other', locations: [], content: text('{"agents":[1]}') },
      { content: text('- a: started') },
    ),
  },
  {
    harness: 'gemini',
    category: 'files',
    name: 'read',
    state: 'completed',
    updates: call(
      {
        title: 'ReadFile: README.md',
        kind: 'read',
        locations: [{ path: '/w/README.md' }],
        rawInput: { path: 'README.md' },
      },
      {},
    ),
  },
  {
    harness: 'opencode',
    category: 'documents',
    name: 'webfetch',
    state: 'completed',
    updates: call(
      { title: 'webfetch', kind: 'fetch', rawInput: { url: 'https://example.com' } },
      { title: 'https://example.com', rawOutput: { output: 'Example Domain', metadata: {} } },
    ),
  },
  {
    harness: 'opencode',
    category: 'search',
    name: 'grep',
    state: 'completed',
    updates: call(
      { title: 'grep', kind: 'search', rawInput: { pattern: 'dead' } },
      { title: 'dead', rawOutput: { output: 'none', metadata: { matches: 0 } } },
    ),
  },
  {
    harness: 'baton',
    category: 'command',
    name: 'bash',
    state: 'completed',
    updates: call(
      { name: 'bash', title: 'true', kind: 'execute', rawInput: { command: 'true' } },
      { rawOutput: { exitCode: 0, output: '' } },
    ),
  },
]

/** As the runner writes them down. */
export function entriesOf(updates: Update[]): EntryBody[] {
  const entries: EntryBody[] = []
  const translate = translator({ entry: (body) => entries.push(body), delta: () => {}, usage: () => {} })
  for (const update of updates) translate.update(update)
  translate.flush()
  return entries
}

/** Claude Code's own sub-agent: what it says and does names the call that started it. */
export function subAgent(): Update[] {
  const launch = 'toolu_launch'
  const within = { claudeCode: { parentToolUseId: launch } }
  return [
    {
      sessionUpdate: 'tool_call',
      toolCallId: launch,
      title: 'Look for dead code',
      kind: 'think',
      status: 'pending',
      rawInput: { prompt: 'Look', subagent_type: 'Explore' },
      _meta: { claudeCode: { toolName: 'Agent' } },
    },
    {
      sessionUpdate: 'agent_message_chunk',
      content: { type: 'text', text: 'I look around.' },
      _meta: within,
    },
    {
      sessionUpdate: 'tool_call',
      toolCallId: 'toolu_inner',
      title: 'grep -r dead',
      kind: 'search',
      status: 'pending',
      rawInput: { pattern: 'dead' },
      _meta: { claudeCode: { toolName: 'Grep', parentToolUseId: launch } },
    },
    {
      sessionUpdate: 'tool_call_update',
      toolCallId: 'toolu_inner',
      status: 'completed',
      rawOutput: 'src/old.ts',
      _meta: { claudeCode: { toolName: 'Grep', parentToolUseId: launch } },
    },
    {
      sessionUpdate: 'tool_call_update',
      toolCallId: launch,
      status: 'completed',
      rawOutput: 'src/old.ts is dead.',
      _meta: { claudeCode: { toolName: 'Agent' } },
    },
    { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: 'One file is dead.' } },
  ]
}
