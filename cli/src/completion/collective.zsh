#compdef collective
# zsh completion for collective: source <(collective completion zsh), or this file as _collective in $fpath

_collective() {
  local line directive=
  local -a values descriptions before
  before=("${(@Q)words[2,CURRENT-1]}")
  while IFS= read -r line; do
    case $line in
      :nospace) directive=nospace ;;
      :files) directive=files ;;
      *)
        values+=("${line%%$'\t'*}")
        descriptions+=("${line/$'\t'/  -- }")
        ;;
    esac
  done < <(collective __complete -- "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)
  case $directive in
    files) _files ;;
    nospace) compadd -S '' -d descriptions -- "${values[@]}" ;;
    *) compadd -d descriptions -- "${values[@]}" ;;
  esac
}

if [[ $funcstack[1] == _collective ]]; then
  _collective "$@"
else
  (($+functions[compdef])) || { autoload -Uz compinit && compinit; }
  compdef _collective collective
fi
