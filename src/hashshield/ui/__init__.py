"""The page of `hashshield ui`: photos are dropped on it, and it saves protected copies.

Start with `serve`. `server` decides who may ask, and answers; `session` holds the dropped photos and has them protected
by `hashshield.api`; `photos` keeps their files in a private folder, under harmless names.
"""
