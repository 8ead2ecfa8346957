# bash completion for collective: source <(collective completion bash)

# A word as it was typed, quotes and backslashes taken away.
_collective_unquoted() {
  local text=$1 plain=
  case $text in
    \"*)
      text=${text#\"}
      text=${text%\"}
      ;;
    \'*)
      REPLY=${text#\'}
      REPLY=${REPLY%\'}
      return
      ;;
  esac
  while [[ $text == *\\* ]]; do
    plain+=${text%%\\*}
    text=${text#*\\}
    plain+=${text:0:1}
    text=${text:1}
  done
  REPLY=$plain$text
}

_collective() {
  local rest=${COMP_LINE:0:COMP_POINT} word trimmed line raw prefix directive= i last=-1
  local -a words=() asked=()
  # COMP_WORDBREAKS splits 'collective:/path' and '--output=json': what no blank separates is one word again.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    trimmed=${rest#"${rest%%[![:space:]]*}"}
    word=${COMP_WORDS[i]}
    ((i == COMP_CWORD)) && word=$trimmed
    if ((i > 0)) && [[ $trimmed == "$rest" ]]; then
      words[last]=${words[last]}$word
    else
      words[++last]=$word
    fi
    rest=${trimmed#"$word"}
  done
  raw=${words[last]}
  for ((i = 1; i <= last; i++)); do
    _collective_unquoted "${words[i]}"
    asked+=("$REPLY")
  done
  # readline completes only what follows the last break.
  prefix=
  if [[ $raw != [\"\']* && $raw == *[:=]* ]]; then
    prefix=${raw%"${raw##*[:=]}"}
    [[ $COMP_WORDBREAKS == *"${prefix: -1}"* ]] || prefix=
  fi
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :nospace)
        directive=nospace
        continue
        ;;
      :files)
        directive=files
        continue
        ;;
    esac
    line=${line%%$'\t'*}
    case $raw in
      \"*)
        line=${line//\\/\\\\}
        line=${line//\"/\\\"}
        line=${line//\$/\\\$}
        line=${line//\`/\\\`}
        ;;
      \'*) ;;
      *) printf -v line %q "$line" ;;
    esac
    COMPREPLY+=("${line#"$prefix"}")
  done < <(collective __complete -- "${asked[@]}" 2>/dev/null)
  if [[ $directive == files ]]; then
    compopt -o default 2>/dev/null
  elif [[ $directive == nospace ]]; then
    compopt -o nospace 2>/dev/null
  fi
}

complete -F _collective collective
