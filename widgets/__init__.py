"""Pictures and viewers for notebooks; they may use `l2gnet`, never the other way round."""
