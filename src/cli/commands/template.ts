import type { CommandModule } from '../commands.ts'
import { paint } from '../output.ts'
import { isRequired, type Template } from '../template-rendering.ts'
import { listTemplates, readTemplate } from '../templates.ts'
import { alignColumns } from '../text.ts'

export const list: CommandModule = {
  declare: () => {},
  async run({ out }) {
    const templates = await listTemplates()
    const rows = templates.map(({ name, kind, title }) => [name, kind, title])
    await out.show(
      { templates },
      () => alignColumns([['NAME', 'KIND', 'WHAT IT DOES'].map(paint.dim), ...rows], out.width),
      () => templates,
    )
    if (!out.machine) out.note('baton template show NAME says what each needs and how it is started.')
  },
}

export const show: CommandModule = {
  declare: (command) => void command.argument('<template>', 'its name, or a file of your own'),
  async run({ out, cwd }, { args: [name = ''] }) {
    const template = await readTemplate(name, cwd)
    await out.show(template, () => lines(template, name))
  },
}

function lines(template: Template, name: string): string[] {
  const parameters = Object.entries(template.parameters)
  const wide = Math.max(0, ...parameters.map(([name]) => name.length))
  const needed = parameters.filter(([, one]) => isRequired(one)).map(([name]) => ` --set ${name}=…`)
  const command = template.kind === 'batch' ? 'baton batch run' : 'baton agent run-cloud'
  return [
    paint.bold(template.title),
    '',
    ...template.description.trim().split('\n'),
    '',
    ...parameters.flatMap(([name, one]) => {
      const marks = [
        one.type === 'text' ? '' : one.type,
        one.list ? 'list: one --set or line for each' : '',
        isRequired(one) ? 'required' : '',
        one.default === undefined ? '' : `default ${JSON.stringify(one.default)}`,
      ].filter((mark) => mark !== '')
      return [
        `  ${name.padEnd(wide)}  ${one.description}${marks.length === 0 ? '' : paint.dim(` (${marks.join('; ')})`)}`,
      ]
    }),
    '',
    `  ${command} --template ${name}${needed.join('')}`,
  ]
}
