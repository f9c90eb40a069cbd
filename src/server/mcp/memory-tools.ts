import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { MemoryContent, MemoryReason } from '../../contract/index.ts'
import { answer, answerOrSay, type ToolRoom } from './call.ts'
import { isLoose, pick, present, shown, unpack } from './liberal.ts'

const DESCRIPTION = `Keep something for later runs in one of your memory stores, or correct what is kept there. Use it \
when you have learned what will be of use beyond this task: how things are done here, what was decided and why, a trap \
and the way around it. One fact a call, in a few sentences that stand by themselves. Not for the state of this task, \
not for what the repository says anyway, and never for secrets. To correct a memory give its memory_id, the id in \
brackets before it, and its whole new text.`

const Input = z.object({
  content: MemoryContent.describe('What is to be remembered; of a memory that is changed, all of its new text.'),
  memory_id: z.uuid().optional().describe('Of the memory that this replaces; without it, a new one is kept.'),
  store_uid: z.string().optional().describe('Where to keep it; needed where you may write to several stores.'),
  reason: MemoryReason.optional().describe('Why it is kept or changed, for people.'),
})

const SCHEMAS = {
  inputSchema: shown(z.preprocess(readInput, Input)),
  outputSchema: shown(z.object({ memory_id: z.string(), version_id: z.string(), store_uid: z.string() })),
}

export function addMemoryTools(server: McpServer, its: ToolRoom): void {
  server.registerTool(
    'save_memory',
    {
      title: 'Save a memory',
      description: DESCRIPTION,
      ...SCHEMAS,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    (asked) =>
      answerOrSay(its, async () => {
        const kept = await its.room.engine.remembering.keep(its.caller, asked)
        return answer(kept, `Kept as ${kept.memory_id}.`)
      }),
  )
}

function readInput(given: unknown): unknown {
  const asked = unpack(given)
  if (!isLoose(asked)) return asked
  return present({
    content: pick(asked, 'content', 'memory', 'text'),
    memory_id: pick(asked, 'memory_id', 'id'),
    store_uid: pick(asked, 'store_uid', 'store'),
    reason: pick(asked, 'reason'),
  })
}
