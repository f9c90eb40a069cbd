import { z } from 'zod'
import { defineTool } from './tool.ts'

const Item = z.object({ content: z.string().min(1).max(500), status: z.enum(['pending', 'in_progress', 'completed']) })

export const todo = defineTool({
  name: 'todo',
  description:
    'Say what you mean to do, as a list that people see. Each call replaces the whole list. Use it for work of more ' +
    'than two steps; keep one item in_progress and complete it before the next.',
  kind: 'think',
  input: z.object({ items: z.array(Item).max(100) }),
  title: () => 'Update the plan',
  async run({ items }) {
    const open = items.filter(({ status }) => status !== 'completed').length
    return {
      text: `The plan has ${items.length} items, ${open} of them open.`,
      plan: items.map(({ content, status }) => ({ content, status, priority: 'medium' as const })),
    }
  },
})
