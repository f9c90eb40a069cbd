import { basename } from 'node:path'
import type { Command } from 'commander'
import type { Context, Given } from '../context.ts'
import { CommandFailure } from '../exits.ts'

const SHELLS: Record<string, string> = {
  bash: `_baton() {
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}") IFS=$'\\n'
  COMPREPLY=($("\${COMP_WORDS[0]}" __complete -- "\${words[@]}" 2>/dev/null | cut -f1))
}
complete -o default -F _baton baton oz
`,
  zsh: `#compdef baton oz
_baton() {
  local -a found
  local line
  while IFS=$'\\t' read -r line about; do
    found+=("\${line//:/\\\\:}\${about:+:$about}")
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#found} )); then _describe baton found; else _files; fi
}
compdef _baton baton oz
`,
  fish: `function __baton_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete -- $words[2..-1] 2>/dev/null
end
complete -c baton -a '(__baton_complete)'
complete -c oz -a '(__baton_complete)'
`,
  elvish: `use str
for program [baton oz] {
  set edit:completion:arg-completer[$program] = {|@words|
    e:baton __complete -- $@words[1..] 2>/dev/null | each {|line|
      var name @about = (str:split "\t" $line)
      edit:complex-candidate $name &display=(str:join " " [$name $@about])
    }
  }
}
`,
  powershell: `Register-ArgumentCompleter -Native -CommandName baton, oz -ScriptBlock {
  param($word, $ast, $position)
  $words = @($ast.CommandElements | ForEach-Object { $_.ToString() })
  $rest = @($words | Select-Object -Skip 1)
  if ($word -eq '') { $rest += '""' }
  & $words[0] __complete -- @rest 2>$null | ForEach-Object {
    $name, $about = $_ -split "\`t", 2
    if (-not $about) { $about = $name }
    [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $about)
  }
}
`,
}

export function declare(command: Command): void {
  command.argument('[shell]', 'bash, zsh, fish, powershell or elvish; yours where absent').addHelpText(
    'after',
    `
  bash        echo 'source <(baton completion bash)' >> ~/.bashrc
  zsh         baton completion zsh > "\${fpath[1]}/_baton"
  fish        baton completion fish > ~/.config/fish/completions/baton.fish
  powershell  baton completion powershell >> $PROFILE
  elvish      baton completion elvish >> ~/.config/elvish/rc.elv`,
  )
}

export async function run(context: Context, given: Given): Promise<void> {
  const shell = given.args[0] ?? basename(context.env.SHELL ?? '')
  const script = SHELLS[shell]
  if (script === undefined)
    throw new CommandFailure(
      'usage',
      shell === '' ? 'Say for which shell.' : `There is no completion for "${shell}".`,
      `There is one for ${Object.keys(SHELLS).join(', ')}.`,
    )
  for (const line of script.trimEnd().split('\n')) context.out.line(line)
}
