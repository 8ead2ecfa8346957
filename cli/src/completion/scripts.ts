/**
 * What bash, zsh and fish need to ask us: each script hands the words so far to `collective __complete` and offers what
 * comes back, one candidate a line, `value<TAB>description`. A last line `:nospace` says that a candidate goes on (a
 * directory); `:files` asks the shell to complete local files itself.
 */
export const COMPLETION_SHELLS = ['bash', 'zsh', 'fish'] as const;
export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

export function completionScript(shell: CompletionShell): string {
  switch (shell) {
    case 'bash':
      return BASH;
    case 'zsh':
      return ZSH;
    default:
      return FISH;
  }
}

const BASH = `# bash completion for collective
_collective() {
  local current words_so_far line value directive=
  # COMP_WORDBREAKS splits 'collective:/path' at the colon: join the words again.
  words_so_far=("\${COMP_WORDS[@]:1:COMP_CWORD-1}")
  local text=\${COMP_LINE:0:COMP_POINT}
  current=\${text##*[[:space:]]}
  local -a joined=()
  read -r -a joined <<< "\${text%"$current"}"
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :nospace) directive=nospace ;;
      :files) directive=files ;;
      *) value=\${line%%$'\\t'*}; COMPREPLY+=("$value") ;;
    esac
  done < <(collective __complete -- "\${joined[@]:1}" "$current" 2>/dev/null)
  if [[ $directive == files ]]; then
    compopt -o default 2>/dev/null
    return
  fi
  [[ $directive == nospace ]] && compopt -o nospace 2>/dev/null
  # readline completes only what follows the last colon.
  if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
    local prefix=\${current%"\${current##*:}"} i
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]=\${COMPREPLY[i]#"$prefix"}; done
  fi
}
complete -F _collective collective
`;

const ZSH = `#compdef collective
# zsh completion for collective
_collective() {
  local line directive=
  local -a values descriptions
  while IFS= read -r line; do
    case $line in
      :nospace) directive=nospace ;;
      :files) directive=files ;;
      *) values+=("\${line%%$'\\t'*}"); descriptions+=("\${line/$'\\t'/  -- }") ;;
    esac
  done < <(collective __complete -- "\${(@)words[2,CURRENT-1]}" "\${words[CURRENT]}" 2>/dev/null)
  if [[ $directive == files ]]; then
    _files
  elif [[ $directive == nospace ]]; then
    compadd -Q -S '' -d descriptions -- "\${values[@]}"
  else
    compadd -Q -d descriptions -- "\${values[@]}"
  fi
}
if [[ $funcstack[1] == _collective ]]; then _collective "$@"; else compdef _collective collective; fi
`;

const FISH = `# fish completion for collective
function __collective_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in (collective __complete -- $words[2..-1] 2>/dev/null)
    switch $line
      case ':files'
        __fish_complete_path (commandline -ct)
      case ':nospace'
      case '*'
        echo $line
    end
  end
end
complete -c collective -f -a '(__collective_complete)'
`;
