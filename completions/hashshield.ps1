# Generated from the application by `make pages`.
# Add a line to the profile of PowerShell ($PROFILE) that reads this file: . C:\path\to\hashshield.ps1

Register-ArgumentCompleter -Native -CommandName 'hashshield' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commands = @{
        'hashshield' = @('protect', 'ui', 'watch', 'verify', 'evaluate', 'audit', 'restore', 'train', 'doctor', 'originals', 'models', 'bench', 'config', 'integrate')
        'hashshield originals' = @('list', 'prune', 'export', 'forget', 'repair')
        'hashshield models' = @('list', 'info', 'download', 'verify', 'remove', 'path', 'import')
        'hashshield bench' = @('map', 'copies', 'goals', 'methods', 'speed', 'device', 'size', 'scale', 'targeted', 'tau', 'untargeted', 'convergence', 'adaptive', 'survival', 'visible', 'transfer', 'heatmap', 'traditional', 'retrieval')
        'hashshield config' = @('show')
        'hashshield integrate' = @('nautilus', 'dolphin', 'finder', 'sendto', 'run')
    }
    $options = @{
        'hashshield' = [ordered]@{ '--version' = 'Print the version and exit.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield protect' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--goal' = 'Goal without a target: away, opposite, decoy or center.'; '--target' = 'Aim at this image''s code.'; '--target-set' = 'Aim at the anchor of these images.'; '--target-class' = 'Aim at the anchor of a class.'; '--tolerance' = 'Bits by which a targeted code may miss; 0 if lossless, else K/16.'; '--for' = 'Give the copy for this place a code of its own; copies for two names do not find each other.'; '--witness' = 'Network kept out of the search, to check the result with: auto (all that are suitable), none or NAME.'; '--accept-best' = 'Write the best result even if it misses the goal.'; '--preset' = 'What to prepare for: invisible (the file as it is), balanced (what services do to it) or strong (networks never searched on; can be seen).'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--max-visible' = 'How visible the change may be: none, faint, some or obvious, or a number; unset: the preset''s.'; '--method' = 'The search: rnm, rnm-paper, tanh, hag or noise.'; '--steps' = 'Gradient steps per photo.'; '--stop' = 'When to stop: budget (after all steps) or first (at the first success).'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--batch-size' = 'Photos searched at once; auto: as many as suit the memory.'; '--jobs' = 'Threads that read and write photos.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '-o' = 'Write copies here instead of changing photos in place.'; '--output' = 'Write copies here instead of changing photos in place.'; '--rename' = 'Give the copies of --output names that tell nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--no-backup' = 'Keep no originals; nothing can be restored.'; '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--sample' = 'Try this many of the photos on copies; the photos stay as they are.'; '--exclude' = 'Skip files and folders that match this shell pattern; repeatable.'; '--force' = 'Start again from the vault''s original.'; '--strip-copies' = 'Remove thumbnails and other unprotected copies.'; '--strip-gps' = 'Remove the position.'; '--strip-metadata' = 'Remove all metadata but orientation and colour profile.'; '--remove-credentials' = 'Remove content credentials (C2PA), which no longer match.'; '--keep-mtime' = 'Keep the modification time.'; '--lossy-formats' = 'Accept HEIC and AVIF, which lose a little each time they are written.'; '--break-links' = 'Accept files with several hard links.'; '--allow-root' = 'As root, write to folders that others can write to.'; '--survival' = 'Also measure what survives the processing that services apply.'; '--engine' = 'Where the work is done: local or ray (with --output).'; '--ray-address' = 'Ray cluster to use, which needs a token; otherwise one is started here.'; '--workers' = 'Ray worker processes; by default one per GPU, or per four cores.'; '--json' = 'Print one JSON document.'; '--report' = 'Write an HTML page with pictures and receipts.'; '--redact' = 'Leave originals out of the --report page, for sharing.'; '--progress' = 'How to show progress: auto (a bar, on a terminal) or plain (a line every ten seconds at most).'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '--verbose' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield ui' = [ordered]@{ '--port' = 'Port of 127.0.0.1; 0 takes any that is free.'; '--no-browser' = 'Print the link, and open no browser.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield watch' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--goal' = 'Goal without a target: away, opposite, decoy or center.'; '--preset' = 'What to prepare for: invisible (the file as it is), balanced (what services do to it) or strong (networks never searched on; can be seen).'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--max-visible' = 'How visible the change may be: none, faint, some or obvious, or a number; unset: the preset''s.'; '--steps' = 'Gradient steps per photo.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--settle' = 'Time without a write after which a file counts as complete.'; '--exclude' = 'Skip files and folders that match this shell pattern; repeatable.'; '--strip-copies' = 'Remove thumbnails and other unprotected copies.'; '--strip-gps' = 'Remove the position.'; '--strip-metadata' = 'Remove all metadata but orientation and colour profile.'; '--remove-credentials' = 'Remove content credentials (C2PA), which no longer match.'; '--keep-mtime' = 'Keep the modification time.'; '--lossy-formats' = 'Accept HEIC and AVIF, which lose a little each time they are written.'; '--vault' = 'Folder of the originals and the ledger.'; '--allow-root' = 'As root, write to folders that others can write to.'; '--json' = 'Print one JSON object a line.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '--verbose' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield verify' = [ordered]@{ '--original' = 'Compare with this photo, or with the original of a protected one.'; '--target' = 'Aim at this image''s code.'; '--target-set' = 'Aim at the anchor of these images.'; '--target-class' = 'Aim at the anchor of a class.'; '--model' = 'Network to hash with; repeatable. Otherwise those that the photo was protected against.'; '--tolerance' = 'Bits by which a targeted code may miss; 0 if lossless, else K/16.'; '--preset' = 'What to prepare for: invisible (the file as it is), balanced (what services do to it) or strong (networks never searched on; can be seen).'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--vault' = 'Folder of the originals and the ledger.'; '--exclude' = 'Skip files and folders that match this shell pattern; repeatable.'; '--json' = 'Print one JSON document.'; '--progress' = 'How to show progress: auto (a bar, on a terminal) or plain (a line every ten seconds at most).'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '--verbose' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield evaluate' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--target' = 'Aim at this image''s code.'; '--target-set' = 'Aim at the anchor of these images.'; '--target-class' = 'Aim at the anchor of a class.'; '--preset' = 'What to prepare for: invisible (the file as it is), balanced (what services do to it) or strong (networks never searched on; can be seen).'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--vault' = 'Folder of the originals and the ledger.'; '--survival' = 'Also measure what survives the processing that services apply.'; '--json' = 'Print one JSON document.'; '--report' = 'Write an HTML page with pictures and receipts.'; '--redact' = 'Leave originals out of the --report page, for sharing.'; '--progress' = 'How to show progress: auto (a bar, on a terminal) or plain (a line every ten seconds at most).'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '--verbose' = 'Show every file and all its measurements, and tracebacks of internal errors.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield audit' = [ordered]@{ '--gallery' = 'Folder of photos to search among.'; '--original' = 'The original; otherwise the vault''s.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--top' = 'Number of photos that a search shows.'; '--threshold' = 'Largest distance in bits of a match; otherwise an eighth, with --copies what the card says.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--vault' = 'Folder of the originals and the ledger.'; '--exclude' = 'Skip files and folders that match this shell pattern; repeatable.'; '--copies' = 'Find copies of the photos instead: cropped, framed, ...'; '--sheet' = 'Write a picture of both searches: .jpg or .png.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield restore' = [ordered]@{ '--last-run' = 'Restore all that the last protect changed, below PATH if given.'; '--force' = 'Restore files edited since, too; the edited file goes to the vault.'; '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--break-links' = 'Accept files with several hard links.'; '--allow-root' = 'As root, write to folders that others can write to.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file, however many.'; '--verbose' = 'Show every file, however many.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield train' = [ordered]@{ '--data' = 'The dataset in its official layout, or your own.'; '-o' = 'The checkpoint to write.'; '--output' = 'The checkpoint to write.'; '--bits' = 'Code length; repeat for several heads.'; '--epochs' = 'Epochs of each stage, for a trial.'; '--queries' = 'Photos held out for evaluation.'; '--name' = 'Name of the checkpoint; otherwise the recipe''s.'; '--seed' = 'Seed of the training; the recipe has that of the split.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--resume' = 'Continue after an interruption.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield doctor' = [ordered]@{ '--thorough' = 'Read every original back, however long it takes.'; '--vault' = 'Folder of the originals and the ledger.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals list' = [ordered]@{ '--vault' = 'Folder of the originals and the ledger.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals prune' = [ordered]@{ '--older-than' = 'Only those stored longer ago than this.'; '--restored-only' = 'Only those whose files have all been restored.'; '--unrecorded' = 'Only those that no record refers to.'; '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals export' = [ordered]@{ '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--allow-root' = 'As root, write to folders that others can write to.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-v' = 'Show every file, however many.'; '--verbose' = 'Show every file, however many.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals forget' = [ordered]@{ '--all' = 'Everything that is kept and recorded.'; '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield originals repair' = [ordered]@{ '-n' = 'Show what would be done, and do nothing.'; '--dry-run' = 'Show what would be done, and do nothing.'; '--vault' = 'Folder of the originals and the ledger.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models list' = [ordered]@{ '--names' = 'Only names, as --model takes them.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models info' = [ordered]@{ '--classes' = 'Only its class names, for --target-class.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models download' = [ordered]@{ '--all' = 'Every network of the catalogue.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models verify' = [ordered]@{ '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models remove' = [ordered]@{ '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models path' = [ordered]@{ '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield models import' = [ordered]@{ '--card' = 'For ONNX: inputs and outputs of the network, in TOML.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench map' = [ordered]@{ '--data' = 'The dataset it was trained on.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench copies' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--detector' = 'A foreign detector to measure too, as ONNX.'; '--photos' = 'Held-out photos to edit.'; '--distractors' = 'Held-out photos to tell them apart from.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench goals' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '--goal' = 'A goal to judge; repeatable. Default: away.'; '--preset' = 'The preset to protect them with.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--photos' = 'Queries to protect.'; '--steps' = 'Gradient steps per photo.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench methods' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--photos' = 'Queries for rnm.'; '--rival-photos' = 'Queries for the other methods.'; '--limit' = 'Steps of the other methods.'; '--only' = 'Run this method only: rnm or a published one; repeatable.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench speed' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--batch-size' = 'Photos searched at once.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench device' = [ordered]@{ '--preset' = 'The preset whose search is timed.'; '--batch-size' = 'Photos searched at once; repeatable. Default: 1 to 128.'; '--photos' = 'Most photos to hash, and to protect from end to end.'; '--steps' = 'Gradient steps per photo.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench size' = [ordered]@{ '--megapixels' = 'A size to time; repeatable. Default: 0.2, 24.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench scale' = [ordered]@{ '--photos' = 'Most photos to time, taken evenly from all.'; '--workers' = 'Workers to time at once; repeatable. Default: 1, 2.'; '--steps' = 'Gradient steps per photo.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench targeted' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--limit' = 'Most steps of any method; the paper takes 2000.'; '--anchor' = 'Photos of a kind whose vote is its anchor code.'; '--preset' = 'A preset of protect to compare; repeatable. Default: invisible and balanced.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench tau' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--limit' = 'Most steps of any method; the paper takes 2000.'; '--anchor' = 'Photos of a kind whose vote is its anchor code.'; '--tau' = 'A bound to try; repeatable. Default: 0.01 to 0.05.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench untargeted' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--limit' = 'Most steps of any method; the paper takes 2000.'; '--anchor' = 'Photos of a kind whose vote is its anchor code.'; '--preset' = 'A preset of protect to compare; repeatable. Default: invisible and balanced.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench convergence' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--limit' = 'Most steps of any method; the paper takes 2000.'; '--anchor' = 'Photos of a kind whose vote is its anchor code.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench adaptive' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--goal' = 'A goal to try; repeatable. Default: all that need no target.'; '--service' = 'Another network of the service; repeat for several.'; '--psnr' = 'Amplify smaller changes to this PSNR first.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench survival' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--preset' = 'A preset to try; repeatable. Default: all.'; '--goal' = 'Goal without a target: away, opposite, decoy or center.'; '--target-class' = 'Aim at the anchor of a class.'; '--png' = 'Protect PNG copies, whatever the format.'; '--photos' = 'Most photos to protect, taken evenly from all.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench visible' = [ordered]@{ '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--preset' = 'A preset to try; repeatable. Default: all.'; '--goal' = 'Goal without a target: away, opposite, decoy or center.'; '--target-class' = 'Aim at the anchor of a class.'; '--png' = 'Protect PNG copies, whatever the format.'; '--photos' = 'Most photos to protect, taken evenly from all.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--names' = 'Take only the photos that this file names, one a line.'; '--output' = 'Folder for results/ and plots/.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench transfer' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--preset' = 'A preset to try; repeatable. Default: all.'; '--goal' = 'A goal to try; repeatable. Default: away and opposite.'; '--hold-out' = 'What searches leave out: each lineage, each network, or one --model.'; '--surrogate' = 'An EfficientNet-Lite of which strong moves the features only.'; '--judge' = 'A network that only judges: residual or sscd, with its ONNX file.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench heatmap' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench traditional' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--limit' = 'Most steps of any method; the paper takes 2000.'; '--anchor' = 'Photos of a kind whose vote is its anchor code.'; '--tau' = 'A bound to try; repeatable. Default: 0.01 to 0.04.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield bench retrieval' = [ordered]@{ '--data' = 'The dataset in its official layout.'; '-o' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--output' = 'Folder for results/, plots/, and runs/ of cached trials.'; '--model' = 'Network to search against, as NAME or NAME:BITS; repeat for several.'; '--queries' = 'Queries to attack, drawn at random.'; '--tau' = 'Largest change of any pixel, 1/255 to 1.'; '--steps' = 'Gradient steps of rnm; by default its own number.'; '--seed' = 'Make results repeatable; for benchmarks only.'; '--device' = 'Where the networks run: auto, cpu, cuda or mps. auto takes CUDA or the CPU; mps is experimental.'; '--json' = 'Print one JSON document.'; '-q' = 'Print only what went wrong.'; '--quiet' = 'Print only what went wrong.'; '-y' = 'Answer yes to all questions.'; '--yes' = 'Answer yes to all questions.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield config' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield config show' = [ordered]@{ '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate nautilus' = [ordered]@{ '--remove' = 'Remove the entries.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate dolphin' = [ordered]@{ '--remove' = 'Remove the entries.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate finder' = [ordered]@{ '--remove' = 'Remove the entries.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate sendto' = [ordered]@{ '--remove' = 'Remove the entries.'; '--json' = 'Print one JSON document.'; '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
        'hashshield integrate run' = [ordered]@{ '-h' = 'Show a summary and exit.'; '--help' = 'Show a summary and exit.' }
    }
    # A list of words; what to ask the program for; or nothing, which leaves files to PowerShell.
    $values = @{
        'hashshield protect --model' = 'models list --names'
        'hashshield protect --goal' = @('away', 'opposite', 'decoy', 'center')
        'hashshield protect --target' = ''
        'hashshield protect --target-set' = ''
        'hashshield protect --target-class' = 'models info --classes'
        'hashshield protect --tolerance' = ''
        'hashshield protect --for' = 'models list --names'
        'hashshield protect --witness' = 'models list --names'
        'hashshield protect --preset' = @('invisible', 'balanced', 'strong')
        'hashshield protect --tau' = ''
        'hashshield protect --max-visible' = @('none', 'faint', 'some', 'obvious')
        'hashshield protect --method' = @('rnm', 'rnm-paper', 'tanh', 'hag', 'noise')
        'hashshield protect --steps' = ''
        'hashshield protect --stop' = @('budget', 'first')
        'hashshield protect --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield protect --batch-size' = ''
        'hashshield protect --jobs' = ''
        'hashshield protect --seed' = ''
        'hashshield protect -o' = ''
        'hashshield protect --output' = ''
        'hashshield protect --vault' = ''
        'hashshield protect --sample' = ''
        'hashshield protect --exclude' = ''
        'hashshield protect --engine' = ''
        'hashshield protect --ray-address' = ''
        'hashshield protect --workers' = ''
        'hashshield protect --report' = ''
        'hashshield protect --progress' = ''
        'hashshield ui --port' = ''
        'hashshield watch --model' = 'models list --names'
        'hashshield watch --goal' = @('away', 'opposite', 'decoy', 'center')
        'hashshield watch --preset' = @('invisible', 'balanced', 'strong')
        'hashshield watch --tau' = ''
        'hashshield watch --max-visible' = @('none', 'faint', 'some', 'obvious')
        'hashshield watch --steps' = ''
        'hashshield watch --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield watch --settle' = ''
        'hashshield watch --exclude' = ''
        'hashshield watch --vault' = ''
        'hashshield verify --original' = ''
        'hashshield verify --target' = ''
        'hashshield verify --target-set' = ''
        'hashshield verify --target-class' = 'models info --classes'
        'hashshield verify --model' = 'models list --names'
        'hashshield verify --tolerance' = ''
        'hashshield verify --preset' = @('invisible', 'balanced', 'strong')
        'hashshield verify --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield verify --vault' = ''
        'hashshield verify --exclude' = ''
        'hashshield verify --progress' = ''
        'hashshield evaluate --model' = 'models list --names'
        'hashshield evaluate --target' = ''
        'hashshield evaluate --target-set' = ''
        'hashshield evaluate --target-class' = 'models info --classes'
        'hashshield evaluate --preset' = @('invisible', 'balanced', 'strong')
        'hashshield evaluate --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield evaluate --vault' = ''
        'hashshield evaluate --report' = ''
        'hashshield evaluate --progress' = ''
        'hashshield audit --gallery' = ''
        'hashshield audit --original' = ''
        'hashshield audit --model' = 'models list --names'
        'hashshield audit --top' = ''
        'hashshield audit --threshold' = ''
        'hashshield audit --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield audit --vault' = ''
        'hashshield audit --exclude' = ''
        'hashshield audit --sheet' = ''
        'hashshield restore --vault' = ''
        'hashshield train --data' = ''
        'hashshield train -o' = ''
        'hashshield train --output' = ''
        'hashshield train --bits' = ''
        'hashshield train --epochs' = ''
        'hashshield train --queries' = ''
        'hashshield train --name' = ''
        'hashshield train --seed' = ''
        'hashshield train --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield doctor --vault' = ''
        'hashshield originals list --vault' = ''
        'hashshield originals prune --older-than' = ''
        'hashshield originals prune --vault' = ''
        'hashshield originals export --vault' = ''
        'hashshield originals forget --vault' = ''
        'hashshield originals repair --vault' = ''
        'hashshield models import --card' = ''
        'hashshield bench map --data' = ''
        'hashshield bench map --model' = 'models list --names'
        'hashshield bench map --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench copies --data' = ''
        'hashshield bench copies -o' = ''
        'hashshield bench copies --output' = ''
        'hashshield bench copies --model' = 'models list --names'
        'hashshield bench copies --detector' = ''
        'hashshield bench copies --photos' = ''
        'hashshield bench copies --distractors' = ''
        'hashshield bench copies --seed' = ''
        'hashshield bench copies --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench goals --data' = ''
        'hashshield bench goals --goal' = ''
        'hashshield bench goals --preset' = ''
        'hashshield bench goals --model' = 'models list --names'
        'hashshield bench goals --photos' = ''
        'hashshield bench goals --steps' = ''
        'hashshield bench goals --seed' = ''
        'hashshield bench goals --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench methods --data' = ''
        'hashshield bench methods --model' = 'models list --names'
        'hashshield bench methods --photos' = ''
        'hashshield bench methods --rival-photos' = ''
        'hashshield bench methods --limit' = ''
        'hashshield bench methods --only' = ''
        'hashshield bench methods --seed' = ''
        'hashshield bench methods --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench speed --model' = 'models list --names'
        'hashshield bench speed --batch-size' = ''
        'hashshield bench speed --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench device --preset' = ''
        'hashshield bench device --batch-size' = ''
        'hashshield bench device --photos' = ''
        'hashshield bench device --steps' = ''
        'hashshield bench device --model' = 'models list --names'
        'hashshield bench device --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench size --megapixels' = ''
        'hashshield bench size --model' = 'models list --names'
        'hashshield bench size --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench scale --photos' = ''
        'hashshield bench scale --workers' = ''
        'hashshield bench scale --steps' = ''
        'hashshield bench scale --model' = 'models list --names'
        'hashshield bench scale --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench targeted --data' = ''
        'hashshield bench targeted -o' = ''
        'hashshield bench targeted --output' = ''
        'hashshield bench targeted --model' = 'models list --names'
        'hashshield bench targeted --queries' = ''
        'hashshield bench targeted --limit' = ''
        'hashshield bench targeted --anchor' = ''
        'hashshield bench targeted --preset' = ''
        'hashshield bench targeted --tau' = ''
        'hashshield bench targeted --steps' = ''
        'hashshield bench targeted --seed' = ''
        'hashshield bench targeted --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench tau --data' = ''
        'hashshield bench tau -o' = ''
        'hashshield bench tau --output' = ''
        'hashshield bench tau --model' = 'models list --names'
        'hashshield bench tau --queries' = ''
        'hashshield bench tau --limit' = ''
        'hashshield bench tau --anchor' = ''
        'hashshield bench tau --tau' = ''
        'hashshield bench tau --steps' = ''
        'hashshield bench tau --seed' = ''
        'hashshield bench tau --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench untargeted --data' = ''
        'hashshield bench untargeted -o' = ''
        'hashshield bench untargeted --output' = ''
        'hashshield bench untargeted --model' = 'models list --names'
        'hashshield bench untargeted --queries' = ''
        'hashshield bench untargeted --limit' = ''
        'hashshield bench untargeted --anchor' = ''
        'hashshield bench untargeted --preset' = ''
        'hashshield bench untargeted --tau' = ''
        'hashshield bench untargeted --steps' = ''
        'hashshield bench untargeted --seed' = ''
        'hashshield bench untargeted --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench convergence --data' = ''
        'hashshield bench convergence -o' = ''
        'hashshield bench convergence --output' = ''
        'hashshield bench convergence --model' = 'models list --names'
        'hashshield bench convergence --queries' = ''
        'hashshield bench convergence --limit' = ''
        'hashshield bench convergence --anchor' = ''
        'hashshield bench convergence --tau' = ''
        'hashshield bench convergence --steps' = ''
        'hashshield bench convergence --seed' = ''
        'hashshield bench convergence --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench adaptive --data' = ''
        'hashshield bench adaptive -o' = ''
        'hashshield bench adaptive --output' = ''
        'hashshield bench adaptive --model' = 'models list --names'
        'hashshield bench adaptive --queries' = ''
        'hashshield bench adaptive --goal' = ''
        'hashshield bench adaptive --service' = 'models list --names'
        'hashshield bench adaptive --psnr' = ''
        'hashshield bench adaptive --tau' = ''
        'hashshield bench adaptive --steps' = ''
        'hashshield bench adaptive --seed' = ''
        'hashshield bench adaptive --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench survival --model' = 'models list --names'
        'hashshield bench survival --preset' = ''
        'hashshield bench survival --goal' = @('away', 'opposite', 'decoy', 'center')
        'hashshield bench survival --target-class' = 'models info --classes'
        'hashshield bench survival --photos' = ''
        'hashshield bench survival --tau' = ''
        'hashshield bench survival --steps' = ''
        'hashshield bench survival --seed' = ''
        'hashshield bench survival --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench visible --model' = 'models list --names'
        'hashshield bench visible --preset' = ''
        'hashshield bench visible --goal' = @('away', 'opposite', 'decoy', 'center')
        'hashshield bench visible --target-class' = 'models info --classes'
        'hashshield bench visible --photos' = ''
        'hashshield bench visible --tau' = ''
        'hashshield bench visible --steps' = ''
        'hashshield bench visible --seed' = ''
        'hashshield bench visible --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench visible --names' = ''
        'hashshield bench visible --output' = ''
        'hashshield bench transfer --data' = ''
        'hashshield bench transfer -o' = ''
        'hashshield bench transfer --output' = ''
        'hashshield bench transfer --model' = 'models list --names'
        'hashshield bench transfer --queries' = ''
        'hashshield bench transfer --preset' = ''
        'hashshield bench transfer --goal' = ''
        'hashshield bench transfer --hold-out' = ''
        'hashshield bench transfer --surrogate' = 'models list --names'
        'hashshield bench transfer --judge' = ''
        'hashshield bench transfer --tau' = ''
        'hashshield bench transfer --steps' = ''
        'hashshield bench transfer --seed' = ''
        'hashshield bench transfer --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench heatmap --data' = ''
        'hashshield bench heatmap -o' = ''
        'hashshield bench heatmap --output' = ''
        'hashshield bench heatmap --model' = 'models list --names'
        'hashshield bench heatmap --queries' = ''
        'hashshield bench heatmap --tau' = ''
        'hashshield bench heatmap --steps' = ''
        'hashshield bench heatmap --seed' = ''
        'hashshield bench heatmap --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench traditional --data' = ''
        'hashshield bench traditional -o' = ''
        'hashshield bench traditional --output' = ''
        'hashshield bench traditional --model' = 'models list --names'
        'hashshield bench traditional --queries' = ''
        'hashshield bench traditional --limit' = ''
        'hashshield bench traditional --anchor' = ''
        'hashshield bench traditional --tau' = ''
        'hashshield bench traditional --steps' = ''
        'hashshield bench traditional --seed' = ''
        'hashshield bench traditional --device' = @('auto', 'cpu', 'cuda', 'mps')
        'hashshield bench retrieval --data' = ''
        'hashshield bench retrieval -o' = ''
        'hashshield bench retrieval --output' = ''
        'hashshield bench retrieval --model' = 'models list --names'
        'hashshield bench retrieval --queries' = ''
        'hashshield bench retrieval --tau' = ''
        'hashshield bench retrieval --steps' = ''
        'hashshield bench retrieval --seed' = ''
        'hashshield bench retrieval --device' = @('auto', 'cpu', 'cuda', 'mps')
    }

    $before = @($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    $path = 'hashshield'
    foreach ($word in @($before | Select-Object -Skip 1)) {
        if ($word.StartsWith('-')) { continue }
        if ($commands[$path] -notcontains $word) { break }
        $path = "$path $word"
    }
    $previous = "$path $($before | Select-Object -Last 1)"

    if ($values.ContainsKey($previous)) {
        $found = $values[$previous]
        if ($found -is [string]) {
            if (-not $found) { return }
            $asked = $found.Split(' ')
            $found = @(& hashshield @asked 2>$null)
        }
        $texts = @{}
    } elseif ($wordToComplete.StartsWith('-')) {
        $texts = $options[$path]
        $found = @($texts.Keys)
    } else {
        $found = @($commands[$path])
        $texts = @{}
    }
    $found | Where-Object { $_ -and $_.StartsWith($wordToComplete) } | ForEach-Object {
        $typed = if ($_ -match '\s') { "'" + $_.Replace("'", "''") + "'" } else { $_ }
        $text = if ($texts[$_]) { $texts[$_] } else { $_ }
        [System.Management.Automation.CompletionResult]::new($typed, $_, 'ParameterValue', $text)
    }
}
