/** Tools by what they are for, in the categories of the Oz normalized conversation. */
import { z } from 'zod'

export const TOOL_CATEGORIES = [
  'command',
  'files',
  'search',
  'integration',
  'documents',
  'computer',
  'review',
  'skill',
] as const
export const ToolCategory = z.enum(TOOL_CATEGORIES)
export type ToolCategory = z.infer<typeof ToolCategory>

/**
 * By the tool's name, which says more than its kind: Claude Code (2) and Codex (its adapter 2.6) call kinds that ACP
 * has no word for `other` or `think`, and their own transcripts tell no kind at all. Of a tool of an MCP server the
 * server's name counts, too. The first that fits.
 */
const NAMED: [RegExp, ToolCategory][] = [
  [/(^|[_.\s-])(code_?)?review(er|s)?([_.\s-]|$)|^insert_.*comments$/i, 'review'],
  [/^(load_|activate_)?skill$|^(load|activate) skill\b/i, 'skill'],
  [/(^|[_.])(computer|browser|playwright|puppeteer|chrome|screenshot|desktop)([_.-]|$)|computer_use/i, 'computer'],
  [/^((mcp[_.]+baton[_.]+)?propose_plan|exit_?plan_?mode|read_?mcp_?resource(tool)?|\w+_documents?)$/i, 'documents'],
  [/^mcp[_.]/, 'integration'],
  [/^(bash|bash_?output|kill_?(shell|bash)|(local_)?shell(_command)?|exec(_command)?|write_stdin)$/i, 'command'],
  [/^(run_(shell_)?command|write_to_command)$/i, 'command'],
  [/^(read|write|edit|multi_?edit|notebook_?edit|ls|list|list_directory|apply_patch|view_image)$/i, 'files'],
  [/^(read_files?|read_many_files|write_file|edit_files|replace)$/i, 'files'],
  [/^(web_?search|google_web_search|code_?search|search_codebase|search|grep|glob|file_glob)$/i, 'search'],
  [/^(web_?fetch|fetch)$/i, 'documents'],
  [/^(task|agent|todo|todo_?write|write_todos|update_plan)$/i, 'skill'],
  [/^ask_?user(_?question)?$/i, 'integration'],
]

/**
 * `kind` is ACP's, where it is known. `name` may be a title, where a harness tells no name; what is executed says
 * nothing of the tool.
 */
export function categoryOf(kind: string | null, name: string): ToolCategory {
  if (kind === 'execute' && !/^mcp[_.]/.test(name)) return 'command'
  const named = NAMED.find(([pattern]) => pattern.test(name))
  if (named !== undefined) return named[1]
  switch (kind) {
    case 'read':
    case 'edit':
    case 'delete':
    case 'move':
      return 'files'
    case 'search':
      return 'search'
    case 'fetch':
      return 'documents'
    case 'think':
    case 'switch_mode':
      return 'skill'
  }
  return 'integration'
}
