# attacker
