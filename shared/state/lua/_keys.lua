-- Mirror of shared/state/keys.py for keys that a script derives from a lane's name.
local WAITING = 'clawdbot:waiting'
local function state_of(lane) return lane .. ':state' end
local function conversation_of(lane) return lane:match('^(.*):') end
local function bot_of(lane) return lane:match('^[^:]+:[^:]+') end
local function counts_of(bot) return bot .. ':counts' end
local function seen_of(bot, day) return bot .. ':seen:' .. day end
local function words_of(day) return 'clawdbot:words:' .. day end
local function usage_of(bot, day) return bot .. ':usage:' .. day end
local function event_of(lane, id) return bot_of(lane) .. ':event:' .. id end
local function queue_of(lane) return lane:sub(-7) == ':outbox' and 'push' or 'process' end
local function history_of(lane) return conversation_of(lane) .. ':history' end
local function told_of(lane) return conversation_of(lane) .. ':told' end
local function taken_of(claim) return 'clawdbot:taken:' .. claim end
