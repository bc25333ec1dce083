# Generated from the application; see hashshield.cli.shells.

function __hashshield_at --description 'Whether the words before the cursor are this command'
    set -l given
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or set -a given $word
    end
    switch "$given[1]"
        case originals models bench config
            test (count $given) -gt 2; and set given $given[1..2]
        case '*'
            test (count $given) -gt 1; and set given $given[1]
    end
    test "$given" = "$argv"
end

function __hashshield_models
    set -q __hashshield_model_names; or set -g __hashshield_model_names (hashshield models list --names 2>/dev/null)
    printf '%s\n' $__hashshield_model_names
end

function __hashshield_classes
    set -q __hashshield_class_names; or set -g __hashshield_class_names (hashshield models info --classes 2>/dev/null)
    printf '%s\n' $__hashshield_class_names
end

complete -c hashshield -n '__hashshield_at' -f -a protect -d 'Change photos, in place, so that their image-hash codes no longer match.'
complete -c hashshield -n '__hashshield_at' -f -a verify -d 'Hash photos again and say whether they are still protected.'
complete -c hashshield -n '__hashshield_at' -f -a evaluate -d 'Compare photos with their protected copies: PSNR, SSIM, largest change, Hamming distances.'
complete -c hashshield -n '__hashshield_at' -f -a restore -d 'Bring originals back from the vault, byte for byte.'
complete -c hashshield -n '__hashshield_at' -f -a train -d 'Train a hash network from a recipe and write it with its card.'
complete -c hashshield -n '__hashshield_at' -f -a originals -d 'Look after the originals in the vault.'
complete -c hashshield -n '__hashshield_at' -f -a models -d 'List the networks that are known and say what they are.'
complete -c hashshield -n '__hashshield_at' -f -a bench -d 'Measure again what the documentation claims.'
complete -c hashshield -n '__hashshield_at' -f -a config -d 'Settings, and where each value comes from.'
complete -c hashshield -n '__hashshield_at' -l version -d 'Print the version and exit.'
complete -c hashshield -n '__hashshield_at' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at protect' -F
complete -c hashshield -n '__hashshield_at protect' -l model -x -a '(__hashshield_models)' -d 'Network to search against, as NAME or NAME:BITS; repeat for several.'
complete -c hashshield -n '__hashshield_at protect' -l goal -x -a 'away opposite decoy center' -d 'What the bits become without a target: away, opposite, decoy or center.'
complete -c hashshield -n '__hashshield_at protect' -l target -r -F -d 'Aim at this image\'s code.'
complete -c hashshield -n '__hashshield_at protect' -l target-set -x -a '(__fish_complete_directories)' -d 'Aim at the anchor of these images.'
complete -c hashshield -n '__hashshield_at protect' -l target-class -x -a '(__hashshield_classes)' -d 'Aim at the anchor of a class.'
complete -c hashshield -n '__hashshield_at protect' -l tolerance -x -d 'Bits a targeted code may be off; 0 when lossless, else K/16.'
complete -c hashshield -n '__hashshield_at protect' -l accept-best -d 'Write the best found even when it falls short.'
complete -c hashshield -n '__hashshield_at protect' -l tau -x -d 'Largest change of any pixel, 1/255 to 1.'
complete -c hashshield -n '__hashshield_at protect' -l method -x -a 'rnm rnm-paper tanh hag noise' -d 'The search: rnm, rnm-paper, tanh, hag or noise.'
complete -c hashshield -n '__hashshield_at protect' -l steps -x -d 'Gradient steps per photo.'
complete -c hashshield -n '__hashshield_at protect' -l stop -x -a 'budget first' -d 'Use the whole step budget, or end at the first success: budget or first.'
complete -c hashshield -n '__hashshield_at protect' -l device -x -a 'auto cpu cuda mps' -d 'Where the networks run: auto, cpu, cuda or mps.'
complete -c hashshield -n '__hashshield_at protect' -l batch-size -x -d 'Photos searched at once; chosen by memory.'
complete -c hashshield -n '__hashshield_at protect' -l jobs -x -d 'Threads that read and write photos.'
complete -c hashshield -n '__hashshield_at protect' -l seed -x -d 'Repeatable codes; for benches only.'
complete -c hashshield -n '__hashshield_at protect' -s o -l output -x -a '(__fish_complete_directories)' -d 'Write copies here, not in place.'
complete -c hashshield -n '__hashshield_at protect' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at protect' -l no-backup -d 'Keep no originals: no way back.'
complete -c hashshield -n '__hashshield_at protect' -s n -l dry-run -d 'Say what would be done.'
complete -c hashshield -n '__hashshield_at protect' -l force -d 'Start again from the vault\'s original.'
complete -c hashshield -n '__hashshield_at protect' -l strip-copies -d 'Remove thumbnails and other unprotected copies.'
complete -c hashshield -n '__hashshield_at protect' -l strip-gps -d 'Remove the position.'
complete -c hashshield -n '__hashshield_at protect' -l strip-metadata -d 'Remove metadata; keep orientation, colour.'
complete -c hashshield -n '__hashshield_at protect' -l keep-mtime -d 'Keep the modification time.'
complete -c hashshield -n '__hashshield_at protect' -l break-links -d 'Accept files with several hard links.'
complete -c hashshield -n '__hashshield_at protect' -l allow-root -d 'As root, write where others can too.'
complete -c hashshield -n '__hashshield_at protect' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at protect' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at protect' -s y -l yes -d 'Do not ask.'
complete -c hashshield -n '__hashshield_at protect' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at verify' -F
complete -c hashshield -n '__hashshield_at verify' -l original -r -F -d 'Compare with this photo, not the ledger.'
complete -c hashshield -n '__hashshield_at verify' -l target -r -F -d 'Aim at this image\'s code.'
complete -c hashshield -n '__hashshield_at verify' -l target-set -x -a '(__fish_complete_directories)' -d 'Aim at the anchor of these images.'
complete -c hashshield -n '__hashshield_at verify' -l target-class -x -a '(__hashshield_classes)' -d 'Aim at the anchor of a class.'
complete -c hashshield -n '__hashshield_at verify' -l model -x -a '(__hashshield_models)' -d 'Network to hash with; repeatable. Otherwise those it was protected against.'
complete -c hashshield -n '__hashshield_at verify' -l tolerance -x -d 'Bits a targeted code may be off; 0 when lossless, else K/16.'
complete -c hashshield -n '__hashshield_at verify' -l device -x -a 'auto cpu cuda mps' -d 'Where the networks run: auto, cpu, cuda or mps.'
complete -c hashshield -n '__hashshield_at verify' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at verify' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at verify' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at verify' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at evaluate' -F
complete -c hashshield -n '__hashshield_at evaluate' -F
complete -c hashshield -n '__hashshield_at evaluate' -l model -x -a '(__hashshield_models)' -d 'Network to search against, as NAME or NAME:BITS; repeat for several.'
complete -c hashshield -n '__hashshield_at evaluate' -l device -x -a 'auto cpu cuda mps' -d 'Where the networks run: auto, cpu, cuda or mps.'
complete -c hashshield -n '__hashshield_at evaluate' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at evaluate' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at evaluate' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at restore' -F
complete -c hashshield -n '__hashshield_at restore' -l last-run -d 'All that the last protect changed, below PATH if given.'
complete -c hashshield -n '__hashshield_at restore' -l force -d 'Also files edited since; the edit goes to the vault.'
complete -c hashshield -n '__hashshield_at restore' -s n -l dry-run -d 'Say what would be done.'
complete -c hashshield -n '__hashshield_at restore' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at restore' -l break-links -d 'Accept files with several hard links.'
complete -c hashshield -n '__hashshield_at restore' -l allow-root -d 'As root, write where others can too.'
complete -c hashshield -n '__hashshield_at restore' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at restore' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at restore' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at train' -F
complete -c hashshield -n '__hashshield_at train' -l data -x -a '(__fish_complete_directories)' -d 'The dataset in its official layout.'
complete -c hashshield -n '__hashshield_at train' -s o -l output -r -F -d 'The checkpoint to write.'
complete -c hashshield -n '__hashshield_at train' -l bits -x -d 'Code length; repeat for several heads.'
complete -c hashshield -n '__hashshield_at train' -l epochs -x -d 'Passes over the data.'
complete -c hashshield -n '__hashshield_at train' -l seed -x -d 'Of the split and the training.'
complete -c hashshield -n '__hashshield_at train' -l device -x -a 'auto cpu cuda mps' -d 'Where the networks run: auto, cpu, cuda or mps.'
complete -c hashshield -n '__hashshield_at train' -l resume -d 'Go on after an interruption.'
complete -c hashshield -n '__hashshield_at train' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at train' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at train' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at originals' -f -a list -d 'List the originals that are kept, for which files, and whether something still depends on them.'
complete -c hashshield -n '__hashshield_at originals' -f -a prune -d 'Delete originals for good, to free space. The files they belong to can no longer be restored.'
complete -c hashshield -n '__hashshield_at originals' -f -a export -d 'Write copies of all originals to a folder, under their names; nothing that exists is overwritten.'
complete -c hashshield -n '__hashshield_at originals' -f -a forget -d 'Delete for good what is kept and recorded about photos. They can no longer be restored or verified.'
complete -c hashshield -n '__hashshield_at originals' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at originals list' -f
complete -c hashshield -n '__hashshield_at originals list' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at originals list' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at originals list' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at originals prune' -f
complete -c hashshield -n '__hashshield_at originals prune' -l older-than -x -d 'Only those kept longer ago.'
complete -c hashshield -n '__hashshield_at originals prune' -l restored-only -d 'Only those whose every file was restored.'
complete -c hashshield -n '__hashshield_at originals prune' -l unrecorded -d 'Instead those that no record refers to.'
complete -c hashshield -n '__hashshield_at originals prune' -s n -l dry-run -d 'Say what would be done.'
complete -c hashshield -n '__hashshield_at originals prune' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at originals prune' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at originals prune' -s y -l yes -d 'Do not ask.'
complete -c hashshield -n '__hashshield_at originals prune' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at originals export' -f -a '(__fish_complete_directories)'
complete -c hashshield -n '__hashshield_at originals export' -s n -l dry-run -d 'Say what would be done.'
complete -c hashshield -n '__hashshield_at originals export' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at originals export' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at originals export' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at originals export' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at originals forget' -F
complete -c hashshield -n '__hashshield_at originals forget' -s n -l dry-run -d 'Say what would be done.'
complete -c hashshield -n '__hashshield_at originals forget' -l vault -x -a '(__fish_complete_directories)' -d 'Folder of originals and ledger.'
complete -c hashshield -n '__hashshield_at originals forget' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at originals forget' -s y -l yes -d 'Do not ask.'
complete -c hashshield -n '__hashshield_at originals forget' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at models' -f -a list -d 'List the networks in the catalogue: code lengths, MAP, size, licence.'
complete -c hashshield -n '__hashshield_at models' -f -a info -d 'Say what is known of a network: how it was trained, MAP, classes, licence.'
complete -c hashshield -n '__hashshield_at models' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at models list' -f
complete -c hashshield -n '__hashshield_at models list' -l names -d 'Only names, as --model takes them.'
complete -c hashshield -n '__hashshield_at models list' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at models list' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at models info' -f -a '(__hashshield_models)'
complete -c hashshield -n '__hashshield_at models info' -l classes -d 'Only its class names, for --target-class.'
complete -c hashshield -n '__hashshield_at models info' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at models info' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at bench' -f -a map -d 'Mean average precision of a network, by the protocol of its card.'
complete -c hashshield -n '__hashshield_at bench' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at bench map' -f
complete -c hashshield -n '__hashshield_at bench map' -l data -x -a '(__fish_complete_directories)' -d 'The dataset in its official layout.'
complete -c hashshield -n '__hashshield_at bench map' -l model -x -a '(__hashshield_models)' -d 'Network to search against, as NAME or NAME:BITS; repeat for several.'
complete -c hashshield -n '__hashshield_at bench map' -l device -x -a 'auto cpu cuda mps' -d 'Where the networks run: auto, cpu, cuda or mps.'
complete -c hashshield -n '__hashshield_at bench map' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at bench map' -s q -l quiet -d 'Say only what went wrong.'
complete -c hashshield -n '__hashshield_at bench map' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at config' -f -a show -d 'Print every setting, its value and its source: environment, configuration file or default.'
complete -c hashshield -n '__hashshield_at config' -s h -l help -d 'Show a summary and exit.'
complete -c hashshield -n '__hashshield_at config show' -f
complete -c hashshield -n '__hashshield_at config show' -l json -d 'Print one JSON document.'
complete -c hashshield -n '__hashshield_at config show' -s h -l help -d 'Show a summary and exit.'
