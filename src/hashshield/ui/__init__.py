"""The page of `hashshield ui`: the user drops photos on it and saves protected copies.

Start with `serve`. `server` checks and answers requests; `session` holds the dropped photos and protects them with
`hashshield.api`; `photos` keeps their files in a private folder, under safe names.
"""
