# Generated from the application by `make pages`.
# Works with bash 3.2 and newer, with or without the bash-completion package.

__hashshield_path() {
    # Known words before the cursor, so that "hashshield --version models l" is still "hashshield models".
    path=hashshield
    local i word
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == -* ]] && continue
        __hashshield_case
        case " $commands " in
            *" $word "*) path="$path $word" ;;
            *) return ;;
        esac
    done
}

__hashshield_case() {
    commands='' options='' argument='' takes='' words=''
    case $path in
    'hashshield')
        commands='protect ui watch verify evaluate audit restore train doctor originals models bench config integrate'
        options='--version -h --help'
        ;;
    'hashshield protect')
        options='--model --goal --target --target-set --target-class --tolerance --for --witness --accept-best --preset --tau --max-visible --method --steps --stop --device --batch-size --jobs --seed -o --output --rename --vault --no-backup -n --dry-run --sample --exclude --force --strip-copies --strip-gps --strip-metadata --remove-credentials --keep-mtime --lossy-formats --break-links --allow-root --survival --engine --ray-address --workers --json --report --redact --progress -q --quiet -v --verbose -y --yes -h --help'
        argument=file
        case $previous in
            --model) takes=model ;;
            --goal) takes=word words='away opposite decoy center' ;;
            --target) takes=file ;;
            --target-set) takes=folder ;;
            --target-class) takes=class ;;
            --tolerance) takes=other ;;
            --for) takes=model ;;
            --witness) takes=model ;;
            --preset) takes=word words='invisible balanced strong' ;;
            --tau) takes=other ;;
            --max-visible) takes=other words='none faint some obvious' ;;
            --method) takes=word words='rnm rnm-paper tanh hag noise' ;;
            --steps) takes=other ;;
            --stop) takes=word words='budget first' ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --batch-size) takes=other ;;
            --jobs) takes=other ;;
            --seed) takes=other ;;
            -o|--output) takes=folder ;;
            --vault) takes=folder ;;
            --sample) takes=other ;;
            --exclude) takes=other ;;
            --engine) takes=word ;;
            --ray-address) takes=other ;;
            --workers) takes=other ;;
            --report) takes=file ;;
            --progress) takes=word ;;
        esac
        ;;
    'hashshield ui')
        options='--port --no-browser -h --help'
        case $previous in
            --port) takes=other ;;
        esac
        ;;
    'hashshield watch')
        options='--model --goal --preset --tau --max-visible --steps --device --settle --exclude --strip-copies --strip-gps --strip-metadata --remove-credentials --keep-mtime --lossy-formats --vault --allow-root --json -q --quiet -v --verbose -y --yes -h --help'
        argument=folder
        case $previous in
            --model) takes=model ;;
            --goal) takes=word words='away opposite decoy center' ;;
            --preset) takes=word words='invisible balanced strong' ;;
            --tau) takes=other ;;
            --max-visible) takes=other words='none faint some obvious' ;;
            --steps) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --settle) takes=other ;;
            --exclude) takes=other ;;
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield verify')
        options='--original --target --target-set --target-class --model --tolerance --preset --device --vault --exclude --json --progress -q --quiet -v --verbose -y --yes -h --help'
        argument=file
        case $previous in
            --original) takes=file ;;
            --target) takes=file ;;
            --target-set) takes=folder ;;
            --target-class) takes=class ;;
            --model) takes=model ;;
            --tolerance) takes=other ;;
            --preset) takes=word words='invisible balanced strong' ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --vault) takes=folder ;;
            --exclude) takes=other ;;
            --progress) takes=word ;;
        esac
        ;;
    'hashshield evaluate')
        options='--model --target --target-set --target-class --preset --device --vault --survival --json --report --redact --progress -q --quiet -v --verbose -y --yes -h --help'
        argument=file
        case $previous in
            --model) takes=model ;;
            --target) takes=file ;;
            --target-set) takes=folder ;;
            --target-class) takes=class ;;
            --preset) takes=word words='invisible balanced strong' ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --vault) takes=folder ;;
            --report) takes=file ;;
            --progress) takes=word ;;
        esac
        ;;
    'hashshield audit')
        options='--gallery --original --model --top --threshold --device --vault --exclude --copies --sheet --json -q --quiet -y --yes -h --help'
        argument=file
        case $previous in
            --gallery) takes=folder ;;
            --original) takes=file ;;
            --model) takes=model ;;
            --top) takes=other ;;
            --threshold) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --vault) takes=folder ;;
            --exclude) takes=other ;;
            --sheet) takes=file ;;
        esac
        ;;
    'hashshield restore')
        options='--last-run --force -n --dry-run --vault --break-links --allow-root --json -q --quiet -v --verbose -h --help'
        argument=file
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield train')
        options='--data -o --output --bits --epochs --queries --name --seed --device --resume --json -q --quiet -h --help'
        argument=file
        case $previous in
            --data) takes=file ;;
            -o|--output) takes=file ;;
            --bits) takes=other ;;
            --epochs) takes=other ;;
            --queries) takes=other ;;
            --name) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield doctor')
        options='--thorough --vault --json -q --quiet -h --help'
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield originals')
        commands='list prune export forget repair'
        options='-h --help'
        ;;
    'hashshield originals list')
        options='--vault --json -h --help'
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield originals prune')
        options='--older-than --restored-only --unrecorded -n --dry-run --vault --json -q --quiet -y --yes -h --help'
        case $previous in
            --older-than) takes=other ;;
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield originals export')
        options='-n --dry-run --vault --allow-root --json -q --quiet -v --verbose -h --help'
        argument=folder
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield originals forget')
        options='--all -n --dry-run --vault --json -q --quiet -y --yes -h --help'
        argument=file
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield originals repair')
        options='-n --dry-run --vault --json -q --quiet -h --help'
        case $previous in
            --vault) takes=folder ;;
        esac
        ;;
    'hashshield models')
        commands='list info download verify remove path import'
        options='-h --help'
        ;;
    'hashshield models list')
        options='--names --json -h --help'
        ;;
    'hashshield models info')
        options='--classes --json -h --help'
        argument=model
        ;;
    'hashshield models download')
        options='--all --json -q --quiet -h --help'
        argument=model
        ;;
    'hashshield models verify')
        options='--json -q --quiet -h --help'
        argument=model
        ;;
    'hashshield models remove')
        options='--json -q --quiet -y --yes -h --help'
        argument=model
        ;;
    'hashshield models path')
        options='--json -h --help'
        argument=model
        ;;
    'hashshield models import')
        options='--card --json -q --quiet -h --help'
        argument=file
        case $previous in
            --card) takes=file ;;
        esac
        ;;
    'hashshield bench')
        commands='map copies goals methods speed device size scale targeted tau untargeted convergence adaptive survival visible transfer heatmap traditional retrieval'
        options='-h --help'
        ;;
    'hashshield bench map')
        options='--data --model --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=file ;;
            --model) takes=model ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench copies')
        options='--data -o --output --model --detector --photos --distractors --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --detector) takes=file ;;
            --photos) takes=other ;;
            --distractors) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench goals')
        options='--data --goal --preset --model --photos --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            --goal) takes=word ;;
            --preset) takes=word ;;
            --model) takes=model ;;
            --photos) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench methods')
        options='--data --model --photos --rival-photos --limit --only --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            --model) takes=model ;;
            --photos) takes=other ;;
            --rival-photos) takes=other ;;
            --limit) takes=other ;;
            --only) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench speed')
        options='--model --batch-size --device --json -q --quiet -y --yes -h --help'
        argument=folder
        case $previous in
            --model) takes=model ;;
            --batch-size) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench device')
        options='--preset --batch-size --photos --steps --model --device --json -q --quiet -y --yes -h --help'
        argument=folder
        case $previous in
            --preset) takes=word ;;
            --batch-size) takes=other ;;
            --photos) takes=other ;;
            --steps) takes=other ;;
            --model) takes=model ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench size')
        options='--megapixels --model --device --json -q --quiet -h --help'
        argument=other
        case $previous in
            --megapixels) takes=other ;;
            --model) takes=model ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench scale')
        options='--photos --workers --steps --model --device --json -q --quiet -y --yes -h --help'
        argument=folder
        case $previous in
            --photos) takes=other ;;
            --workers) takes=other ;;
            --steps) takes=other ;;
            --model) takes=model ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench targeted')
        options='--data -o --output --model --queries --limit --anchor --preset --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --limit) takes=other ;;
            --anchor) takes=other ;;
            --preset) takes=word ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench tau')
        options='--data -o --output --model --queries --limit --anchor --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --limit) takes=other ;;
            --anchor) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench untargeted')
        options='--data -o --output --model --queries --limit --anchor --preset --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --limit) takes=other ;;
            --anchor) takes=other ;;
            --preset) takes=word ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench convergence')
        options='--data -o --output --model --queries --limit --anchor --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --limit) takes=other ;;
            --anchor) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench adaptive')
        options='--data -o --output --model --queries --goal --service --psnr --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --goal) takes=word ;;
            --service) takes=model ;;
            --psnr) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench survival')
        options='--model --preset --goal --target-class --png --photos --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        argument=folder
        case $previous in
            --model) takes=model ;;
            --preset) takes=word ;;
            --goal) takes=word words='away opposite decoy center' ;;
            --target-class) takes=class ;;
            --photos) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench visible')
        options='--model --preset --goal --target-class --png --photos --tau --steps --seed --device --names --output --json -q --quiet -y --yes -h --help'
        argument=folder
        case $previous in
            --model) takes=model ;;
            --preset) takes=word ;;
            --goal) takes=word words='away opposite decoy center' ;;
            --target-class) takes=class ;;
            --photos) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
            --names) takes=file ;;
            --output) takes=folder ;;
        esac
        ;;
    'hashshield bench transfer')
        options='--data -o --output --model --queries --preset --goal --hold-out --surrogate --judge --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --preset) takes=word ;;
            --goal) takes=word ;;
            --hold-out) takes=word ;;
            --surrogate) takes=model ;;
            --judge) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench heatmap')
        options='--data -o --output --model --queries --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench traditional')
        options='--data -o --output --model --queries --limit --anchor --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --limit) takes=other ;;
            --anchor) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield bench retrieval')
        options='--data -o --output --model --queries --tau --steps --seed --device --json -q --quiet -y --yes -h --help'
        case $previous in
            --data) takes=folder ;;
            -o|--output) takes=folder ;;
            --model) takes=model ;;
            --queries) takes=other ;;
            --tau) takes=other ;;
            --steps) takes=other ;;
            --seed) takes=other ;;
            --device) takes=word words='auto cpu cuda mps' ;;
        esac
        ;;
    'hashshield config')
        commands='show'
        options='-h --help'
        ;;
    'hashshield config show')
        options='--json -h --help'
        ;;
    'hashshield integrate')
        commands='nautilus dolphin finder sendto run'
        options='-h --help'
        ;;
    'hashshield integrate nautilus')
        options='--remove --json -h --help'
        ;;
    'hashshield integrate dolphin')
        options='--remove --json -h --help'
        ;;
    'hashshield integrate finder')
        options='--remove --json -h --help'
        ;;
    'hashshield integrate sendto')
        options='--remove --json -h --help'
        ;;
    'hashshield integrate run')
        options='-h --help'
        argument=file
        ;;
    esac
}

__hashshield_offer() {
    # One candidate per line on standard input; quoted, and cut where bash split the word.
    local candidate
    while IFS= read -r candidate; do
        [[ -n $candidate && $candidate == "$current"* ]] || continue
        COMPREPLY+=("$(printf '%q' "${candidate#"$cut"}")")
    done
}

_hashshield() {
    local path commands options argument takes words current previous cut='' last
    COMPREPLY=()
    current=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD - 1]}
    last=$COMP_CWORD
    # COMP_WORDBREAKS splits at = and at the colon of NAME:BITS: put the word together again.
    if [[ $current == : ]]; then
        cut=$previous: current=$previous: last=$((COMP_CWORD - 1))
    elif [[ $previous == : ]]; then
        cut=${COMP_WORDS[COMP_CWORD - 2]}: current=$cut$current last=$((COMP_CWORD - 2))
    fi
    previous=${COMP_WORDS[last - 1]}
    if [[ $current == = ]]; then
        current='' previous=${COMP_WORDS[last - 1]}
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[last - 2]}
    fi

    __hashshield_path
    __hashshield_case
    if [[ -z $takes && $current == -* ]]; then
        __hashshield_offer <<<"${options// /$'\n'}"
        return
    fi
    case ${takes:-${argument:-${commands:+commands}}} in
        commands) __hashshield_offer <<<"${commands// /$'\n'}" ;;
        word) __hashshield_offer <<<"${words// /$'\n'}" ;;
        model)
            [[ -n ${__hashshield_models-} ]] || __hashshield_models=$(hashshield models list --names 2>/dev/null)
            __hashshield_offer <<<"$__hashshield_models"
            ;;
        class)
            [[ -n ${__hashshield_classes-} ]] || __hashshield_classes=$(hashshield models info --classes 2>/dev/null)
            __hashshield_offer <<<"$__hashshield_classes"
            ;;
        file) return ;;
        folder)
            compopt +o default +o bashdefault -o dirnames 2>/dev/null
            return
            ;;
    esac
    # Nothing else fits here: without this, bash would offer file names.
    compopt +o default +o bashdefault 2>/dev/null
}

complete -o bashdefault -o default -F _hashshield hashshield
