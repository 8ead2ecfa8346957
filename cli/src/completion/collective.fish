# fish completion for collective: collective completion fish > ~/.config/fish/completions/collective.fish

function __collective_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    # A quote that was opened is not part of the name; where none was, blanks are escaped.
    switch $current
        case '"*' "'*"
            set current (string sub -s 2 -- $current)
        case '*'
            set current (string unescape -- $current)
    end
    for line in (collective __complete -- $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':nospace'
                # What fish inserts ends in '/', behind which it puts no blank anyway.
            case '*'
                echo $line
        end
    end
end

complete -c collective -f -a '(__collective_complete)'
