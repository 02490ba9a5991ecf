"""Own data: images and masks in folders, whatever their files hold."""
